"""DeepFool: step by step to the nearest class of the linearised model."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.hyperplane import onto
from withstand.attacks.parts.nearest import nearest_plane
from withstand.attacks.parts.targeting import by_margin
from withstand.core.evidence import Ask
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

EXTRA = 1e-4  # by which a step goes beyond the plane, in units of the margin


@attack
class Deepfool:
    """The nearest violation: add up the shortest steps to the nearest class of the model made linear at each point, and
    go a little further (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599).

    steps: 50 at most; rows end at their first violation. targets: 9, the classes of smallest margin at the input that
    are compared, or as many as there are; every one costs a backward pass a step. overshoot: 0.02, of the whole way
    from the input, as in the paper. Steps are the shortest that stay in the domain.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 50
    targets: Count = 9
    overshoot: Positive = 0.02

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        told = yield Ask(x0)
        near = by_margin(told, self.targets)
        x, total = x0, torch.zeros_like(x0)
        going = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        for _ in range(self.steps):
            told = yield Ask(x, grad=True, target=near, rows=going)
            going = going & told.live & (told.margin > 0)
            value, slope = nearest_plane(told, threat.norm)
            step = onto(threat.norm, x, slope, value + EXTRA, threat.domain)
            total = total + step.masked_fill(rowwise(~going, x), 0.0)
            x = (x0 + (1 + self.overshoot) * total).clamp(*threat.domain)
        yield Ask(x, rows=going)
