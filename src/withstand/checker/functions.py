"""Activations, and lines above and below them that hold exactly.

A line of any slope is made to hold by its offset, the range of f(x) - slope x over the interval, which is bounded with
all its rounding errors; so slopes may come from anywhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from withstand.checker.rounding import INFLATE, TINY, UNIT, WIDEN, gamma

Array = np.ndarray


class Relaxation(Protocol):
    """Linear bounds of an activation over K boxes of its arguments."""

    def of(self, index: Array) -> "Relaxation":
        """Those of some of the K boxes."""
        ...

    def back(self, rows: Array, magnitude: Array) -> tuple[Array, Array, Array]:
        """Coefficients of the arguments, constants [K, R] and their slack [K, R], whose sum rows [K, R, size] times the
        activation's values does not fall below. magnitude: of the arguments. The slack leaves out one rounding of each
        coefficient (see `rounding`)."""
        ...


class Lines(NamedTuple):
    """lower_slope x + lower_offset <= f(x) <= upper_slope x + upper_offset, all [K, n]; no offset: 0."""

    lower_slope: Array
    lower_offset: Array | None
    upper_slope: Array
    upper_offset: Array | None

    def of(self, index: Array) -> "Lines":
        lower, upper = (None if o is None else o[index] for o in (self.lower_offset, self.upper_offset))
        return Lines(self.lower_slope[index], lower, self.upper_slope[index], upper)

    def back(self, rows: Array, magnitude: Array) -> tuple[Array, Array, Array]:
        """By the lower line where coefficients are positive and by the upper one where they are negative."""
        negative = np.minimum(rows, 0)
        positive = rows - negative
        constant, slack = self._offsets(rows, positive, negative)
        positive *= self.lower_slope[:, None]
        negative *= self.upper_slope[:, None]
        positive += negative
        return positive, constant, slack

    def _offsets(self, rows: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
        terms = gamma(rows.shape[2] + 4)
        upper = 0.0 if self.upper_offset is None else (negative @ self.upper_offset[:, :, None])[..., 0]
        if self.lower_offset is None:  # all terms have one sign
            return upper + np.zeros(rows.shape[:2]), 2 * terms * np.abs(upper)
        lower = (positive @ self.lower_offset[:, :, None])[..., 0]
        largest = np.abs(self.lower_offset)
        if self.upper_offset is not None:
            largest = np.maximum(largest, np.abs(self.upper_offset))
        return upper + lower, 2 * terms * INFLATE * (np.abs(rows) @ largest[:, :, None])[..., 0]


class Function(Protocol):
    """An activation: element-wise, or the maximum of several arguments (see `maximum`).

    curved: whether a slope is given as a number, for whichever line is used; otherwise it is a share in [0, 1] of the
    way from the slope left of the kink to the one right of it, for the line through the kink.
    """

    @property
    def curved(self) -> bool:
        """How slopes are given."""
        ...

    def value(self, x: Array) -> Array:
        """f(x) [K, size], in plain float64."""
        ...

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Bounds of f over [low, high], rounded outward."""
        ...

    def undecided(self, low: Array, high: Array) -> Array:
        """Where tighter bounds on the argument would tighten the lines."""
        ...

    def lines(self, low: Array, high: Array, slope: Array | None) -> Relaxation:
        """Bounds over [low, high]; where no slope is given, or NaN, the choice is the function's own."""
        ...

    def parallel(self, low: Array, high: Array) -> Array:
        """Slopes that make both lines parallel, NaN where they are so anyway or cannot be."""
        ...


@dataclass(frozen=True, eq=False)
class Kinked:
    """left x below 0, right x above: ReLU, leaky ReLU, the absolute value. left and right: numbers, or [n]."""

    left: Array | float
    right: Array | float
    curved = False

    def value(self, x: Array) -> Array:
        return np.where(x < 0, self.left, self.right) * x

    @cached_property
    def exact(self) -> bool:
        """Whether values are exact: both slopes are -1, 0 or 1."""
        return all(bool(np.isin(slope, (-1, 0, 1)).all()) for slope in (self.left, self.right))

    @cached_property
    def _convex(self) -> Array:
        return np.asarray(self.left) <= self.right

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        ends = self.value(low), self.value(high)
        below, above = np.minimum(*ends), np.maximum(*ends)
        if not self.exact:
            below, above = below - 4 * UNIT * np.abs(below), above + 4 * UNIT * np.abs(above)
        inside = self.undecided(low, high)
        return np.where(inside, np.minimum(below, 0.0), below), np.where(inside, np.maximum(above, 0.0), above)

    def undecided(self, low: Array, high: Array) -> Array:
        return (low < 0) & (high > 0)

    def lines(self, low: Array, high: Array, slope: Array | None) -> Lines:
        left, right, unstable = self.left, self.right, self.undecided(low, high)
        steady, free = np.where(low >= 0, right, left), np.where(high > -low, right, left)
        smallest, largest = np.minimum(left, right), np.maximum(left, right)
        chord = (right * high - left * low) / np.where(unstable, high - low, 1.0)
        chord = np.where(unstable, np.minimum(np.maximum(chord, smallest), largest), steady)
        gaps = (left - chord) * low, (right - chord) * high
        convex = self._convex
        gap = np.maximum(*gaps) if convex.all() else np.where(convex, np.maximum(*gaps), np.minimum(*gaps))
        gap = np.where(unstable, gap * WIDEN + np.where(convex, TINY, -TINY), 0.0)
        if slope is not None:
            free = np.where(np.isnan(slope), free, np.clip(left + (right - left) * slope, smallest, largest))
        free = np.where(unstable, free, steady)
        if convex.all():
            return Lines(free, None, chord, gap)
        below, above = np.where(convex, 0.0, gap), np.where(convex, gap, 0.0)
        return Lines(np.where(convex, free, chord), below, np.where(convex, chord, free), above)

    def parallel(self, low: Array, high: Array) -> Array:
        chord = self.lines(low, high, None)
        steep = np.where(self._convex, chord.upper_slope, chord.lower_slope)
        rise = np.where(self.left == np.asarray(self.right), 1.0, np.asarray(self.right) - self.left)
        return np.where(self.undecided(low, high), (steep - self.left) / rise, np.nan)


RELU = Kinked(0.0, 1.0)
ABS = Kinked(-1.0, 1.0)


class Curved(ABC):
    """A function whose lines take slopes as numbers.

    A subclass bounds f(x) - slope x over an interval, all rounding errors included, and proposes slopes; of these the
    one whose line is best at the middle is taken.
    """

    curved = True

    @abstractmethod
    def value(self, x: Array) -> Array:
        """f(x), in plain float64."""

    @abstractmethod
    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Bounds of f over [low, high], rounded outward."""

    @abstractmethod
    def least(self, low: Array, high: Array, slope: Array) -> Array:
        """A lower bound of f(x) - slope x over [low, high]."""

    @abstractmethod
    def most(self, low: Array, high: Array, slope: Array) -> Array:
        """An upper bound of f(x) - slope x over [low, high]."""

    @abstractmethod
    def below(self, low: Array, high: Array) -> Sequence[Array]:
        """Slopes that suit lower lines."""

    @abstractmethod
    def above(self, low: Array, high: Array) -> Sequence[Array]:
        """Slopes that suit upper lines."""

    def undecided(self, low: Array, high: Array) -> Array:
        return low < high

    def chord(self, low: Array, high: Array) -> Array:
        """The slope from one end to the other."""
        width = high - low
        return np.where(width > 0, (self.value(high) - self.value(low)) / np.where(width > 0, width, 1.0), 0.0)

    def lines(self, low: Array, high: Array, slope: Array | None) -> Lines:
        if slope is not None:
            slope = np.where(self.undecided(low, high), slope, np.nan)
        if slope is not None and not np.isnan(slope).any():
            return Lines(slope, self.least(low, high, slope), slope, self.most(low, high, slope))
        lower = _best(self.below(low, high), self.least, low, high, 1)
        upper = _best(self.above(low, high), self.most, low, high, -1)
        if slope is not None:
            lower, upper = (np.where(np.isnan(slope), own, slope) for own in (lower, upper))
        return Lines(lower, self.least(low, high, lower), upper, self.most(low, high, upper))

    def parallel(self, low: Array, high: Array) -> Array:
        return self.chord(low, high)


def _best(slopes: Sequence[Array], offset: Callable[..., Array], low: Array, high: Array, sign: int) -> Array:
    """The slope whose line is the highest in the middle (the lowest, where sign is -1)."""
    middle = low / 2 + high / 2
    height = np.stack([sign * (s * middle + offset(low, high, s)) for s in slopes])
    return np.take_along_axis(np.stack(slopes), height.argmax(0)[None], 0)[0]


@dataclass(frozen=True, eq=False)
class Clip(Curved):
    """x cut to [floor, ceiling], either of which may be infinite."""

    floor: float
    ceiling: float

    def value(self, x: Array) -> Array:
        return np.clip(x, self.floor, self.ceiling)

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        return self.value(low), self.value(high)

    def undecided(self, low: Array, high: Array) -> Array:
        return ((low < self.floor) & (high > self.floor)) | ((low < self.ceiling) & (high > self.ceiling))

    def _values(self, low: Array, high: Array, slope: Array) -> Array:
        """f(x) - slope x at the ends and at the kinks between them, and how far it may be off."""
        points = np.stack([low, high, np.clip(self.floor, low, high), np.clip(self.ceiling, low, high)])
        size = np.maximum(np.abs(low), np.abs(high)) * (1 + np.abs(slope))
        return np.stack([self.value(points) - slope * points, np.broadcast_to(8 * UNIT * size, points.shape)])

    def least(self, low: Array, high: Array, slope: Array) -> Array:
        values, errors = self._values(low, high, slope)
        return (values - errors).min(0)

    def most(self, low: Array, high: Array, slope: Array) -> Array:
        values, errors = self._values(low, high, slope)
        return (values + errors).max(0)

    def below(self, low: Array, high: Array) -> Sequence[Array]:
        start, chord = np.clip(self.floor, low, high), self.chord(low, high)
        width = high - start
        steep = np.where(width > 0, (self.value(high) - self.value(start)) / np.where(width > 0, width, 1.0), 0.0)
        return np.zeros_like(low), np.ones_like(low), chord, steep

    def above(self, low: Array, high: Array) -> Sequence[Array]:
        return Clip(-self.ceiling, -self.floor).below(-high, -low)
