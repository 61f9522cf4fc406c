"""Where to ask next for the largest radius that a verifier proves: between one that holds and one that does not."""

from collections.abc import Callable

import torch
from torch import Tensor

QUARTER = 0.25
"""Where a search asks next: its work grows steeply with the radius, so it keeps to the lower part of the bracket."""

EDGE = 0.1
"""The next radius keeps this share of the bracket from both its ends."""

LEAST = 1e-6
"""Share of the first bracket below which no radius is asked about: a verifier that proves none ends there."""


class Bracket:
    """For K samples the radii `low` that hold and `high` that do not, and bounds on the margin there.

    low, high: [K]. at_low: bounds at `low`, above zero [K]. tolerance: a bracket is done when it is no wider than this
    share of `high`. rounded: see `Threat.rounded`. searches: the bounds are those of searches, which end as soon as
    they are above zero and so say little; the next radius lies at a quarter of the bracket.

    The bound of other verifiers falls slowly while few neurons are undecided and then ever faster, so below minus the
    margin it says no more than that the radius was far too large. The next radius is where the line through both ends
    meets zero; an end that stays twice counts half (the Illinois rule of false position).
    """

    def __init__(
        self,
        low: Tensor,
        at_low: Tensor,
        high: Tensor,
        tolerance: float,
        rounded: Callable[[Tensor], Tensor],
        searches: bool = False,
    ) -> None:
        self.searches = searches
        self.low, self.high, self.tolerance, self.rounded = low.clone(), high.clone(), tolerance, rounded
        self.floor, self._widest = at_low.clone(), high.clone()
        self._known, self._at_low, self._at_high = low.clone(), at_low.clone(), -at_low
        self._last = torch.zeros_like(low)

    @property
    def trial(self) -> Tensor:
        """The next radius [K] of every sample."""
        width = self.high - self.low
        if self.searches:
            asked = self.low + QUARTER * width
        else:
            share = self._at_low / (self._at_low - self._at_high)
            asked = self._known + share * (self.high - self._known)
            asked = asked.clamp(self.low + EDGE * width, self.high - EDGE * width)
        asked = self.rounded(asked)
        return torch.where(asked > self.low, asked, self.rounded(self.low + width / 2))

    @property
    def done(self) -> Tensor:
        """Whether a bracket is narrow enough, no radius lies between its ends, or none held down to `LEAST`: bool
        [K]."""
        narrow = (self.high - self.low <= self.tolerance * self.high) | (self.trial <= self.low)
        return narrow | (self.high <= LEAST * self._widest)

    def learn(self, rows: Tensor, radii: Tensor, bound: Tensor, holds: Tensor) -> None:
        """What came out at `radii` [k] of samples `rows` [k]: the bound, and whether it is a proof."""
        up, way = holds, torch.where(holds, 1.0, -1.0).to(self.low)
        half = torch.where(self._last[rows] == way, 0.5, 1.0).to(self.low)
        bound = torch.maximum(bound, -self.floor[rows])
        self._at_low[rows] = torch.where(up, bound, self._at_low[rows] * half)
        self._at_high[rows] = torch.where(up, self._at_high[rows] * half, bound.clamp(max=0))
        self.low[rows] = torch.where(up, radii, self.low[rows])
        self._known[rows] = torch.where(up, radii, self._known[rows])
        self.high[rows] = torch.where(up, self.high[rows], radii)
        self._last[rows] = way

    def raise_low(self, rows: Tensor, radii: Tensor) -> None:
        """Radii [k] that hold, known without a bound there."""
        self.low[rows] = torch.maximum(self.low[rows], radii)

    def lower_high(self, rows: Tensor, radii: Tensor) -> None:
        """Radii [k] that do not hold, known without a bound there."""
        self.high[rows] = torch.minimum(self.high[rows], radii)
