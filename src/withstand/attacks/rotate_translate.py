"""Rotations and translations, every one on a grid."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.core.evidence import Ask
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class RotateTranslate:
    """Turn and shift the picture in every combination on a grid (Engstrom et al. 2019, arXiv:1712.02779).

    angles, shifts: angles, and shifts along each axis, spread evenly over what the threat allows, both ends included;
    31 and 5, the paper's, make 775 pictures. Odd numbers hold the picture itself. The farthest moves come first, as
    most violations lie there, and a sample ends with its first violation. Labels are enough.
    """

    norms: ClassVar[tuple[str, ...]] = ("spatial",)
    access: ClassVar[Access] = Access.LABELS

    angles: Count = 31
    shifts: Count = 5

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a point of the grid."""
        counts = (self.angles, self.shifts, self.shifts)
        for shares in grid([n if limit > 0 else 1 for n, limit in zip(counts, threat.limits)]).to(x0):
            move = shares * shares.new_tensor(threat.limits) * threat.radii(threat.start(x0))
            yield Ask(threat.project(x0, move.expand(len(x0), -1)))


def grid(counts: list[int]) -> Tensor:
    """All combinations of `counts` numbers spread evenly over [-1, 1], farthest from 0 first: [points, axes]."""
    axes = [torch.arange(1 - n, n, 2) / max(1, n - 1) for n in counts]
    points = torch.cartesian_prod(*axes)
    return points[points.square().sum(1).argsort(descending=True, stable=True)]
