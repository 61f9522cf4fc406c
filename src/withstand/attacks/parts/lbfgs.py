"""Projected L-BFGS for many rows at once, none of which depends on another.

Limited-memory quasi-Newton steps on the coordinates that are free to move, with backtracking along the path projected
on the bounds (Nocedal and Wright 2006, doi:10.1007/978-0-387-40065-5; Byrd et al. 1995, doi:10.1137/0916069). It is a
generator: whoever drives it evaluates the points, so it fits between an attack's asks.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.shapes import flattened
from withstand.core.threat import rowwise

MEMORY = 10
"""Pairs of steps and changes of the slope that are kept."""

DECREASE = 1e-4
"""Share of the fall foretold by the slope that a step must reach (Armijo's rule)."""

HALVINGS = 20
"""Halvings of a step after which a row forgets its pairs, or, where it had none, ends."""

STILL = 1e-7
"""A fall of the value by less than this share of it is rounding: the row ends."""


@dataclass(frozen=True)
class Trial:
    """Points x [B, *shape] whose value and slope are wanted, for `rows` bool [B]."""

    x: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Level:
    """The answer to a trial: value [B] (float64 best), slope [B, *shape], and live [B]: false ends a row."""

    value: Tensor
    slope: Tensor
    live: Tensor


def minimise(
    start: Tensor, steps: int, low: float = -math.inf, high: float = math.inf, tolerance: float | Tensor = 1e-5
) -> Generator[Trial, Level, Tensor]:
    """Walk every row of start [B, *shape] to a local minimum between low and high; returns the best points.

    steps: evaluations of a row at most. A row ends earlier when a slope step would move no coordinate by more than
    `tolerance` (a number, or one a row [B]), or when its value no longer falls.
    """
    walk = _Walk(start, low, high, tolerance)
    trial = walk.x
    for _ in range(steps):
        level = yield Trial(trial.reshape(start.shape), walk.active)
        walk.take(trial, level)
        if not bool(walk.active.any()):
            break
        trial = walk.trial()
    return walk.x.reshape(start.shape)


class _Walk:
    """Where every row stands (flat, [B, d]), the direction and the length of its step, and its last pairs."""

    def __init__(self, start: Tensor, low: float, high: float, tolerance: float | Tensor) -> None:
        self.low, self.high, self.tolerance = low, high, tolerance
        self.x = flattened(start).clamp(low, high)
        rows, size = self.x.shape
        self.value = self.x.new_full((rows,), math.inf, dtype=torch.float64)
        self.slope, self.direction = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.length = self.x.new_zeros(rows)
        self.halvings = torch.zeros(rows, dtype=torch.long, device=self.x.device)
        self.active = torch.ones(rows, dtype=torch.bool, device=self.x.device)
        self.moves, self.bends = (self.x.new_zeros(MEMORY, rows, size) for _ in range(2))

    def trial(self) -> Tensor:
        """The next point of every row."""
        return (self.x + rowwise(self.length, self.x) * self.direction).clamp(self.low, self.high)

    def take(self, trial: Tensor, level: Level) -> None:
        """Move to the points that are good enough, halve the step to the others."""
        value, slope = level.value.double(), flattened(level.slope)
        self.active = self.active & level.live
        foretold = (self.slope * (self.x - trial)).sum(1).double()
        good = self.active & (value < math.inf) & (value <= self.value - DECREASE * foretold)
        first = self.value == math.inf
        self.active = self.active & (good | ~first)
        still = good & ~first & (self.value - value <= STILL * self.value.abs())
        self.halvings = torch.where(good, 0, self.halvings + 1)
        self.length = self.length / 2
        rows = good.nonzero().squeeze(1)
        if len(rows):
            self._remember(rows, trial[rows] - self.x[rows], slope[rows] - self.slope[rows], first)
            self.x = self.x.index_copy(0, rows, trial[rows])
            self.slope = self.slope.index_copy(0, rows, slope[rows])
            self.value = torch.where(good, value, self.value)
        tired = self.active & (self.halvings > HALVINGS)
        blank = (self.moves[0] == 0).all(1)
        self.moves[:, tired], self.bends[:, tired], self.halvings[tired] = 0.0, 0.0, 0
        gain = ((self.x - self.slope).clamp(self.low, self.high) - self.x).abs().amax(1)
        self.active = self.active & ~still & ~(tired & blank) & (gain > self.tolerance)
        self._aim((self.active & (good | tired)).nonzero().squeeze(1))

    def _remember(self, rows: Tensor, move: Tensor, bend: Tensor, first: Tensor) -> None:
        """Keep the pairs of rows whose slope bends upwards along the step."""
        kept = ((move * bend).sum(1) > 1e-10 * (bend * bend).sum(1)) & ~first[rows]
        rows = rows[kept]
        for pairs, new in ((self.moves, move[kept]), (self.bends, bend[kept])):
            pairs[:, rows] = torch.cat([new[None], pairs[:-1, rows]])

    def _aim(self, rows: Tensor) -> None:
        """New directions and first lengths for rows: the two-loop recursion over the coordinates free to move."""
        if not len(rows):
            return
        x, slope = self.x[rows], self.slope[rows]
        held = ((x <= self.low) & (slope > 0)) | ((x >= self.high) & (slope < 0))
        slope = slope.masked_fill(held, 0.0)
        moves, bends = (pairs[:, rows].masked_fill(held, 0.0) for pairs in (self.moves, self.bends))
        along, across = (moves * bends).sum(2, keepdim=True), (bends * bends).sum(2, keepdim=True)
        used = along > 1e-10 * across
        weight = torch.where(used, 1 / along.masked_fill(~used, 1.0), 0.0)
        scale = torch.ones_like(slope[:, :1])
        for pair in reversed(range(MEMORY)):
            scale = torch.where(used[pair], along[pair] / across[pair].masked_fill(~used[pair], 1.0), scale)
        rest, shares = slope, []
        for pair in range(MEMORY):
            share = weight[pair] * (moves[pair] * rest).sum(1, keepdim=True)
            rest = rest - share * bends[pair]
            shares.append(share)
        step = scale * rest
        for pair in reversed(range(MEMORY)):
            step = step + moves[pair] * (shares[pair] - weight[pair] * (bends[pair] * step).sum(1, keepdim=True))
        downhill = (slope * step).sum(1, keepdim=True) > 0
        quasi = downhill & used.any(0)
        self.direction = self.direction.index_copy(0, rows, -torch.where(downhill, step, slope))
        short = (1 / slope.abs().sum(1).clamp(min=1e-30)).clamp(max=1)
        self.length = self.length.index_copy(0, rows, torch.where(quasi.squeeze(1), 1.0, short))
