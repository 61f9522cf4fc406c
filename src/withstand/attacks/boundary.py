"""The boundary attack: a random walk along the boundary towards the input."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.labels import Hunt, bisect, first_violation, length
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

WINDOW = 10
"""Trials of a row after which its steps adapt: sideways ones to a half of successes, inward ones to a quarter."""


@attack
class Boundary:
    """From a violating point walk at random sideways, at the same distance from the input, and a little inwards
    wherever that still violates; needs labels only (Brendel et al. 2018, arXiv:1712.04248).

    queries: at most so many a sample; the paper runs 25,000 steps of about two. sideways, inward: the first lengths of
    the two steps, in distances from the input; .01 each as in Foolbox. adaption: factor by which they grow or shrink
    with their successes; 1.5 as there. The first violation is drawn back to the boundary by bisection before.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    access: ClassVar[Access] = Access.LABELS
    minimal: ClassVar[bool] = True

    queries: Count = 25000
    sideways: Positive = 0.01
    inward: Positive = 0.01
    adaption: Positive = 1.5

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask for the step sideways and one, at rows where it violates, for the step inwards."""
        hunt = Hunt(x0, threat, self.queries)
        x = yield from first_violation(hunt, rng)
        x = yield from bisect(hunt, x, hunt.going, 10)
        aside, inward = (_Stride.begin(x, value) for value in (self.sideways, self.inward))
        while not hunt.over:
            delta = x - x0
            distance = length(delta, "l2").clamp(min=1e-12)
            turned = _turned(delta, distance, aside.value, rng)
            hit = yield from hunt.ask(x0 + turned)
            aside.see(hunt.going, hit, 0.5, self.adaption)
            share = (1 - inward.value).clamp(min=0)
            closer = (x0 + rowwise(share, x) * turned).clamp(*threat.domain)
            done = yield from hunt.ask(closer, hit)
            inward.see(hunt.going & hit, done, 0.25, self.adaption)
            near = length(closer - x0, "l2") < distance
            x = torch.where(rowwise(done & near, x), closer, x)


def _turned(delta: Tensor, distance: Tensor, step: Tensor, rng: RowRandom) -> Tensor:
    """The change delta [B, *shape], turned in a random direction by a step in distances, as long as before."""
    side = rng.normal(tuple(delta.shape[1:]), delta.dtype)
    unit = delta / rowwise(distance, delta)
    along = flattened(side * unit).double().sum(1).to(delta.dtype)
    side = side - rowwise(along, delta) * unit
    side = side * rowwise(step * distance / length(side, "l2").clamp(min=1e-12), delta)
    return (delta + side) / rowwise((1 + step * step).sqrt(), delta)


class _Stride:
    """A length [B] that adapts, row by row, to the share of its trials that succeed."""

    def __init__(self, value: Tensor) -> None:
        self.value, self.tries, self.wins = value, torch.zeros_like(value), torch.zeros_like(value)

    @classmethod
    def begin(cls, x: Tensor, value: float) -> "_Stride":
        """The same first length for every row of x."""
        return cls(x.new_full((len(x),), value))

    def see(self, tried: Tensor, won: Tensor, wanted: float, factor: float) -> None:
        """Count a trial at rows bool [B]; every `WINDOW` trials a row's length grows where more than the wanted share
        of them succeeded, and shrinks where fewer did."""
        self.tries, self.wins = self.tries + tried, self.wins + (won & tried)
        full = self.tries >= WINDOW
        share = self.wins / self.tries.clamp(min=1)
        grown = torch.where(share > wanted, self.value * factor, self.value / factor).clamp(max=1.0)
        self.value = torch.where(full, grown, self.value)
        self.tries, self.wins = self.tries.masked_fill(full, 0.0), self.wins.masked_fill(full, 0.0)
