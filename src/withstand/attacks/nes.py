"""Natural evolution strategies: projected gradient descent on slopes estimated from scores."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.probing import probe_width, slope
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, NonNegative, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

PLATEAU = 5
"""Steps after which a row whose loss has not fallen halves its step."""


@attack
class NES:
    """Estimate the slope from pairs of Gaussian probes and walk down it with momentum; needs scores only (Ilyas et al.
    2018, arXiv:1804.08598).

    queries: at most so many a sample; 10,000 as in the paper. probes: queries of one slope; 50 as there. sigma: width
    of the probes, as a share of the domain. step, least: the first and the smallest length of a step, as fractions of
    the radius; the released code's .01 and 5e-5 at a radius of .05. momentum: share of the old direction that stays.
    loss: margin, ce or dlr; the paper minimises a target's ce, the margin fits every property.
    Unlike the released code, steps halve row by row, and probes stay inside the threat.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "box")
    access: ClassVar[Access] = Access.SCORES

    queries: Count = 10000
    probes: Count = 50
    sigma: Positive = 0.001
    step: Positive = 0.2
    least: Positive = 0.001
    momentum: NonNegative = 0.9
    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """The asks of one slope and one for the new point, a step."""
        pairs = max(1, self.probes // 2)
        x, velocity = threat.start(x0), torch.zeros_like(x0)
        length = x0.new_full((len(x0),), self.step)
        before = x0.new_full((len(x0),), torch.inf)
        width = probe_width(threat, self.sigma)
        for i in range(1, self.queries // (2 * pairs + 1) + 1):
            grad = yield from slope(x0, x, threat, rng.normal, pairs, width, self.loss)
            velocity = self.momentum * velocity + (1 - self.momentum) * grad
            x = threat.project(x0, x - rowwise(length, x) * threat.radii(x) * threat.steepest(velocity, x))
            told = yield Ask(x, loss=self.loss)
            if i % PLATEAU == 0:
                length = torch.where(told.loss < before, length, (length / 2).clamp(min=self.least))
                before = told.loss
