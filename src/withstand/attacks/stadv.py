"""stAdv: spatially transformed adversarial examples."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Ge
from torch import Tensor

from withstand.attacks.parts.lbfgs import Level, minimise
from withstand.core.evidence import Ask, Told
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

SOFT = 1e-8
"""Added to squares under the root of the flow loss, which has no slope at 0 without it (as in the released code)."""

FACTOR = 4.0
"""The weight of the flow loss grows or falls by this factor until it is known from both sides."""

CUTS = 8
"""Halvings of the span between no flow and the best one, at the end."""


@attack
class Stadv:
    """Move pixels along a flow field that is as even as the attack allows (Xiao et al. 2018, arXiv:1801.02612).

    L-BFGS on the margin plus `weight` times the flow loss: over all pixels and their neighbours, the length of the
    difference of their flows. The weight of every row is searched: a success raises it, a failure lowers it, and each
    search goes on from the best flow so far. At the end the best flow is shortened as far as it holds.

    weight: of the flow loss at the start; 0.05 is the paper's. searches: weights tried. steps: evaluations of each.
    confidence: how far below 0 the margin is driven. Neighbours are the four beside a pixel, as in the paper (the
    released code takes the four across its corners). The threat's own measure is the root of a mean of squares, not
    this sum of lengths: PGD and APGD, which walk in the threat itself, are the stronger attacks at a fixed radius.
    """

    norms: ClassVar[tuple[str, ...]] = ("flow",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 60
    searches: Count = 6
    weight: Positive = 0.05
    confidence: Annotated[float, Ge(0)] = 0.0

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask an evaluation of every search, then some without gradients."""
        flow = threat.start(x0)
        best = _Best.none(flow)
        weight = x0.new_full((len(x0),), self.weight, dtype=torch.float64)
        high, low = torch.full_like(weight, torch.inf), torch.zeros_like(weight)
        for _ in range(self.searches):
            before = best.count
            flow = yield from self._minimise(flow, weight, best)
            hit = best.count > before
            low, high = torch.where(hit, weight, low), torch.where(hit, high, weight)
            grown = torch.where(low > 0, (low * high).sqrt(), high / FACTOR)
            weight = torch.where(high < torch.inf, grown, FACTOR * low)
            flow = torch.where(rowwise(best.found, flow), best.flow, flow)
        yield from self._shorten(best)
        yield Ask(threat.project(x0, flow))

    def _minimise(self, start: Tensor, weight: Tensor, best: "_Best") -> Generator[Ask, Told, Tensor]:
        walk = minimise(start, self.steps)
        trial = next(walk)
        while True:
            told = yield Ask(trial.x, grad=True, rows=trial.rows)
            assert told.grad is not None
            even, slope = flow_slope(trial.x)
            best.see(trial.x, told.margin, even)
            hinge = told.loss.double() + self.confidence
            value = hinge.clamp(min=0) + weight * even
            slope = told.grad * rowwise(hinge > 0, start) + rowwise(weight, start).to(start) * slope
            try:
                trial = walk.send(Level(value, slope, told.live))
            except StopIteration as end:
                return end.value

    @staticmethod
    def _shorten(best: "_Best") -> Search:
        whole, high = best.flow, torch.ones_like(best.even)
        low = torch.zeros_like(high)
        for _ in range(CUTS):
            middle = (low + high) / 2
            told = yield Ask(whole * rowwise(middle.to(whole), whole), rows=best.found)
            holds = told.margin > 0
            low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)


@dataclass
class _Best:
    """Per row the violating flow of the least flow loss, and how many violations were seen."""

    flow: Tensor
    even: Tensor
    count: Tensor

    @classmethod
    def none(cls, flow: Tensor) -> Self:
        """No violation yet."""
        even = flow.new_full((len(flow),), torch.inf, dtype=torch.float64)
        return cls(flow, even, torch.zeros_like(even))

    @property
    def found(self) -> Tensor:
        """Rows with a violation: bool [B]."""
        return self.count > 0

    def see(self, flow: Tensor, margin: Tensor, even: Tensor) -> None:
        """Take in flows with their margins and flow losses."""
        hit = margin <= 0
        better = hit & (even < self.even)
        self.flow = torch.where(rowwise(better, flow), flow, self.flow)
        self.even = torch.where(better, even, self.even)
        self.count = self.count + hit


def flow_loss(flow: Tensor) -> Tensor:
    """For flows [B, 2, H, W], the lengths of the differences to the four neighbours of every pixel, summed: [B].

    At the edges a pixel stands for its missing neighbours.
    """
    height, width = flow.shape[2:]
    lengths = [(flow.diff(dim=axis).square().sum(1) + SOFT).sqrt().sum((1, 2)) for axis in (2, 3)]
    return 2 * (lengths[0] + lengths[1]) + 2 * (height + width) * SOFT**0.5


def flow_slope(flow: Tensor) -> tuple[Tensor, Tensor]:
    """`flow_loss` in float64, and its gradient of the flow's type."""
    with torch.enable_grad():
        leaf = flow.detach().requires_grad_()
        loss = flow_loss(leaf.double())
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), slope
