"""Box-constrained L-BFGS."""

from collections.abc import Generator
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.lbfgs import Level, minimise
from withstand.attacks.parts.nearest import Best, tighten
from withstand.attacks.parts.penalty import Scale, aim
from withstand.core.evidence import Ask, Loss, Told
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise, vector_norm

Minimum = Generator[Ask, Told, tuple[Tensor, Tensor]]

GROW = 4.0
"""By how much the weight grows, or falls, until one that succeeds and one that fails are known."""


@attack
class LBFGS:
    """The least squared l2 distance plus a weight times the loss, by L-BFGS within the domain, with a search for the
    smallest weight that succeeds (Szegedy et al. 2014, arXiv:1312.6199). Under `--property not-class:CLASS` it aims at
    that class, else at the one that is nearest if the model were linear.

    steps: evaluations for one weight at most, 30: measured to do as well as the 100 to 1000 of other codes, because
    searches start where the last one ended. searches: weights tried, 9. loss: ce (the paper's) or margin, which
    fits every property. Unlike other codes, no row shares a line search or a stop with another, the first weight is the
    one a linear model would need, and the violation found is moved towards the input as far as it stays one.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 30
    searches: Count = 9
    loss: Loss = "ce"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """The asks that choose a class, one an evaluation, and those of the last bisection."""
        target = yield from aim(x0, threat)
        told = yield Ask(x0, grad=True, target=target)
        scale, best = Scale.of(told), Best(threat, x0)
        weight = 4 * scale.weight  # a class at the border has the probability 1/2, so its slope is half the margin's
        low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        x = x0
        for _ in range(self.searches):
            ask = Ask(x, grad=True, loss=self.loss, target=target)
            x, hit = yield from self._minimum(ask, x0, weight, 1e-5 * scale.l2, best)
            high, low = torch.where(hit, weight, high), torch.where(hit, low, weight)
            middle = torch.where(low > 0, (low * high).sqrt(), high / GROW)
            weight = torch.where(high < torch.inf, middle, GROW * low)
        yield from tighten(best, told.loss, 5)

    def _minimum(self, ask: Ask, x0: Tensor, weight: Tensor, tolerance: Tensor, best: Best) -> Minimum:
        """Minimise from the points of the ask; returns where that ended [B, *shape] and which rows are violations."""
        walk = minimise(ask.x, self.steps, *best.threat.domain, tolerance)
        least, hit = torch.full_like(weight, torch.inf), torch.zeros_like(weight, dtype=torch.bool)
        trial = next(walk)
        while True:
            x = trial.x
            told = yield Ask(x, grad=True, loss=ask.loss, target=ask.target, rows=trial.rows)
            assert told.grad is not None
            best.see(x, told.margin)
            value = vector_norm((x - x0).double(), 2) ** 2 + weight * told.loss.double()
            lower = trial.rows & (value < least)
            least, hit = torch.where(lower, value, least), torch.where(lower, told.margin <= 0, hit)
            slope = 2 * (x - x0) + rowwise(weight, x) * told.grad
            try:
                trial = walk.send(Level(value, slope, told.live))
            except StopIteration as end:
                return end.value, hit
