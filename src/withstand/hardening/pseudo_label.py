"""Labels from a teacher for rows that have none."""

import torch
from torch import Tensor, nn

from withstand.hardening.parts.modes import watching


def pseudo_label(teacher: nn.Module, x: Tensor, y: Tensor | None = None, batch: int = 512) -> Tensor:
    """The classes int64 [N] that a teacher names for x [N, *shape], where y [N] has none (-1) or is None; elsewhere y.

    The teacher is asked in its evaluation mode, in batches, and left as it was.
    """
    with watching(teacher, "eval"), torch.no_grad():
        named = torch.cat([teacher(part.clone()).argmax(1) for part in x.split(batch)])
    return named if y is None else torch.where(y < 0, named, y)
