"""Fast minimum norm: projected gradient steps in a ball whose radius follows the nearest violation."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.nearest import DUAL, Nearest, cosine, length, width
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

SHRINK = (0.05, 0.001)  # share by which the radius shrinks or grows, from the first step to the last
LAST = 0.01  # length of the last step as a share of the first


@attack
class FMN:
    """The nearest violation: gradient steps projected on a ball that shrinks after a violation and grows otherwise
    (Pintor et al. 2021, arXiv:2102.12827).

    steps: 100. step: length (in l2) of the first step for images in [0, 1], which scales with the width of the domain
    and falls to its hundredth; 1 as in the paper, which tunes it up to 10 for linf. loss: margin, as in the paper, or
    ce, which often ends nearer in l2. Unlike the released code, a row without a violation so far gets a radius that
    grows at every step, else the edges of the domain could hold it back for ever; and a point inside the ball stays
    where it is.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    step: Positive = 1.0
    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        x, nearest = x0, Nearest(threat, x0)
        radius = torch.zeros_like(nearest.distance)
        for i in range(self.steps):
            told = yield Ask(x, grad=True, loss=self.loss)
            assert told.grad is not None
            nearest.see(x, told.margin)
            gap = told.margin.nan_to_num(torch.inf).abs() / length(told.grad, DUAL[threat.norm])
            gamma = cosine(*SHRINK, i, self.steps)
            grown = radius * (1 + gamma)
            guess = torch.maximum(threat.distance(x0, x) + gap, grown)
            inside = torch.minimum(radius * (1 - gamma), nearest.distance)
            radius = torch.where(told.margin <= 0, inside, torch.where(nearest.found, grown, guess))
            pace = cosine(self.step, self.step * LAST, i, self.steps) * width(threat)
            x = threat.at(radius).project(x0, x - told.grad * rowwise(pace / length(told.grad, 2), x))
        yield Ask(x, loss=self.loss)
