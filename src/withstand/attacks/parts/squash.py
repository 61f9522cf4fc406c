"""Points of a domain as numbers without bounds: the tanh variable of Carlini and Wagner (2017, arXiv:1608.04644)."""

import math

from torch import Tensor

from withstand.core.threat import Threat, rowwise

EDGE = 0.9
"""The tanh at which the domain ends. Below 1, so that inputs on the edge have a finite variable, a slope that is not 0,
and are told as they are."""


class Squash:
    """x = middle + half * tanh(w) / EDGE, with w stopped where x reaches the domain's edge. In a domain without end,
    x = x0 + w * unit, where unit [B] is the length of a typical change."""

    def __init__(self, threat: Threat, x0: Tensor, unit: Tensor) -> None:
        self.low, self.high = threat.domain
        self.finite = math.isfinite(self.low) and math.isfinite(self.high)
        self.middle, self.half = (self.low + self.high) / 2, (self.high - self.low) / 2
        self.x0, self.unit = x0, rowwise(unit, x0)

    def variable(self, x: Tensor) -> Tensor:
        """w at x."""
        if not self.finite:
            return (x - self.x0) / self.unit
        t = ((x - self.middle) / self.half).clamp(-1, 1) * EDGE
        return ((1 + t) / (1 - t)).log() / 2

    def point(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """x and its slope dx/dw at w."""
        if not self.finite:
            return (self.x0 + w * self.unit).clamp(self.low, self.high), self.unit.expand_as(w)
        t = w.tanh()
        return (self.middle + self.half / EDGE * t).clamp(self.low, self.high), (1 - t * t) * (self.half / EDGE)

    def stop(self, w: Tensor) -> Tensor:
        """w moved back to where x is in the domain."""
        end = math.atanh(EDGE) if self.finite else math.inf
        return w.clamp(-end, end)
