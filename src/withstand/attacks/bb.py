"""Brendel and Bethge's attack: along the boundary towards the input, each step the best that a short reach allows."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from withstand.attacks.parts.follow import SHRINK, far_point, first_step, follow, smoothed
from withstand.attacks.parts.nearest import Best, length, tighten
from withstand.attacks.parts.trust_region import shortest
from withstand.core.evidence import Ask
from withstand.core.registry import Count, Share, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

SHRINK_FAR = 0.2  # share by which the radius of the walk from a random point changes at first
LINE = 4  # asks of each of the two searches along the line from the input

Kept = Annotated[float, Ge(0), Lt(1)]
Beyond = Annotated[float, Gt(0), Lt(2)]


@attack
class BB:
    """The nearest violation: from a violation farther away, along the boundary towards the input; each step goes
    to the point nearest to the input that a plane in place of the boundary, the domain and the longest step allow
    (Brendel et al. 2019, arXiv:1907.01003).

    steps: 100, where the paper takes up to 1000. reach: the longest first step, 0.3 of the distance of the start, and
    last: of it for the last step, a hundredth; lengths fall evenly on a log scale between, where the released code
    starts from 0.001 of the number of values of the input and halves twenty times. momentum: of the boundary's
    normal, 0.8. overshoot: 1.1, so that steps from outside the violation end a tenth beyond the plane, and steps from
    inside a tenth before it. walk: steps of each of two walks that find the violation to start from, 20; one from the
    input and one from noise far from it (Pintor et al. 2021, arXiv:2102.12827). The paper starts from noise or other
    samples alone, and so ends at the part of the boundary that they lead to. A search along the line to the input comes
    before and after the steps.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    reach: Share = 0.3
    last: Share = 0.01
    momentum: Kept = 0.8
    overshoot: Beyond = 1.1
    walk: Count = 20

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, after those that find a violation. Stage 1 is the walk along the boundary."""
        clean = yield Ask(x0)
        best = Best(threat, x0)
        step, far = first_step(best), far_point(best, rng)
        yield from follow(best, x0, self.walk, step, SHRINK, smoothed(clean.margin), clean)
        yield from follow(best, far, self.walk, step, SHRINK_FAR, smoothed(clean.margin))
        yield from tighten(best, clean.margin, LINE)
        yield from self._along(best)
        yield from tighten(best, clean.margin, LINE)

    def _along(self, best: Best) -> Search:
        """Steps from the nearest violation so far, on planes whose normal is a running mean of the margin's slopes."""
        threat, x0, x = best.threat, best.x0, best.x
        reach, normal = self.reach * length(x - x0, 2), torch.zeros_like(x0)
        for i in range(self.steps):
            told = yield Ask(x, grad=True, rows=best.found, stage=1)
            assert told.grad is not None
            best.see(x, told.margin)
            size = length(told.grad, 2)
            normal = self.momentum * normal + (1 - self.momentum) * told.grad / rowwise(size, x)
            gap = (told.margin / size).nan_to_num(0.0, 0.0, 0.0)
            fall = gap * torch.where(gap > 0, self.overshoot, 2 - self.overshoot) * length(normal, 2)
            longest = reach * self.last ** (i / self.steps)
            x = (x + shortest(threat.norm, x0, x, normal, fall, longest, threat.domain)).clamp(*threat.domain)
        told = yield Ask(x, rows=best.found, stage=1)
        best.see(x, told.margin)
