"""Sigmoid, tanh, softplus and ELU, with exponential and logarithm of our own whose errors are known."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from withstand.checker.functions import Curved

Array = np.ndarray

ERROR = 2.0**-45
"""More than the absolute errors of the values and derivatives here, for softplus and ELU in shares of 1 + |x|."""

BISECTIONS = 20
"""Halvings in the search for a slope; it need not be exact."""

_LOG2_HIGH = 0x162E42FEE00000 * 2.0**-53
_LOG2_LOW = 0x1A39EF35793C76 * 2.0**-85
"""ln 2 in two parts, the first of so few digits that its products with whole numbers below 2^11 are exact."""


def exp(x: Array) -> Array:
    """e^x for x <= 0, wrong by less than a share of 2^-48; below -700 by less than 2^-1000 in all.

    x = k ln 2 + r with |r| <= 0.35, where r is computed to within 4u and the series of degree 13 leaves out less than
    2^-57; Horner's scheme adds a few u more.
    """
    x = np.maximum(x, -700.0)
    k = np.rint(x / (_LOG2_HIGH + _LOG2_LOW))
    r = (x - k * _LOG2_HIGH) - k * _LOG2_LOW
    series = np.ones_like(r)
    for n in range(13, 0, -1):
        series = 1 + r * series / n
    return np.ldexp(series, k.astype(np.int32))


def log1p(x: Array) -> Array:
    """ln(1 + x) for 0 <= x <= 1, wrong by less than 2^-48: the series of 2 artanh(x / (2 + x))."""
    w = x / (2 + x)
    square, series = w * w, np.zeros_like(w)
    for n in range(35, 0, -2):
        series = 1 / n + square * series
    return 2 * w * series


class Smooth(Curved):
    """A function with a derivative (at a kink: the slope of either side)."""

    @abstractmethod
    def derivative(self, x: Array) -> Array:
        """f'(x), in plain float64."""

    @abstractmethod
    def critical(self, slope: Array) -> Array:
        """About where f'(x) = slope; for sigmoid and tanh where x <= 0. Any number will do."""

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        below, above = self.value(low), self.value(high)
        return below - ERROR * (1 + np.abs(low)), above + ERROR * (1 + np.abs(high))

    def slack(self, low: Array, high: Array, slope: Array) -> Array:
        """More than the errors of all that `least` and `most` compute."""
        return 16 * ERROR * (1 + (1 + np.abs(slope)) * np.maximum(np.abs(low), np.abs(high)))

    def tangent(self, low: Array, high: Array, slope: Array) -> Array:
        """A lower bound of f(x) - slope x where f is convex: by the tangent at whichever point, hence surely below."""
        point = np.clip(self.critical(slope), low, high)
        tilt = self.derivative(point) - slope
        return self.value(point) - slope * point + np.minimum(tilt * (low - point), tilt * (high - point))

    def two_sided(self, low: Array, high: Array, slope: Array) -> Array:
        """`least` of a function that is convex below 0 and concave, or straight, above."""
        convex = self.tangent(np.minimum(low, 0), np.minimum(high, 0), slope)
        start = np.maximum(low, 0)
        ends = np.minimum(self.value(start) - slope * start, self.value(high) - slope * high)
        best = np.minimum(np.where(low < 0, convex, np.inf), np.where(high > 0, ends, np.inf))
        best = np.where(low == high, self.value(low) - slope * low, best)
        return best - self.slack(low, high, slope)


class Sigmoidal(Smooth):
    """A function that is convex below 0 and concave above, with f(-x) = turn - f(x)."""

    turn: float

    def least(self, low: Array, high: Array, slope: Array) -> Array:
        return self.two_sided(low, high, slope)

    def most(self, low: Array, high: Array, slope: Array) -> Array:
        return self.turn - self.least(-high, -low, slope)

    def below(self, low: Array, high: Array) -> Sequence[Array]:
        return self.chord(low, high), self.derivative(low / 2 + high / 2), self._touching(low, high)

    def above(self, low: Array, high: Array) -> Sequence[Array]:
        return self.below(-high, -low)

    def _touching(self, low: Array, high: Array) -> Array:
        """The slope of the line through the upper end that touches the convex part."""
        left, right, end = np.minimum(low, 0), np.zeros_like(low), self.rough(high)[0]
        for _ in range(BISECTIONS):
            point = (left + right) / 2
            value, derivative = self.rough(point)
            over = value + derivative * (high - point) > end
            left, right = np.where(over, left, point), np.where(over, point, right)
        return self.rough(left)[1]

    @abstractmethod
    def rough(self, x: Array) -> tuple[Array, Array]:
        """Value and derivative, fast and of unknown error."""


@dataclass(frozen=True)
class Sigmoid(Sigmoidal):
    """1 / (1 + e^-x)."""

    turn = 1.0

    def value(self, x: Array) -> Array:
        small = exp(-np.abs(x))
        return np.where(x < 0, small, 1.0) / (1 + small)

    def derivative(self, x: Array) -> Array:
        value = self.value(x)
        return value * (1 - value)

    def rough(self, x: Array) -> tuple[Array, Array]:
        value = 0.5 + 0.5 * np.tanh(x / 2)
        return value, value * (1 - value)

    def critical(self, slope: Array) -> Array:
        level = (1 - np.sqrt(np.clip(1 - 4 * slope, 0, 1))) / 2
        return np.log(np.clip(level, 1e-300, 0.5)) - np.log1p(-np.clip(level, 0, 0.5))


@dataclass(frozen=True)
class Tanh(Sigmoidal):
    """The hyperbolic tangent."""

    turn = 0.0

    def value(self, x: Array) -> Array:
        small = exp(-2 * np.abs(x))
        return np.copysign((1 - small) / (1 + small), x)

    def derivative(self, x: Array) -> Array:
        return 1 - self.value(x) ** 2

    def rough(self, x: Array) -> tuple[Array, Array]:
        value = np.tanh(x)
        return value, 1 - value * value

    def critical(self, slope: Array) -> Array:
        return -np.arctanh(np.sqrt(np.clip(1 - slope, 0, 1 - 1e-16)))


class Convex(Smooth):
    """A convex function."""

    def least(self, low: Array, high: Array, slope: Array) -> Array:
        return self.tangent(low, high, slope) - self.slack(low, high, slope)

    def most(self, low: Array, high: Array, slope: Array) -> Array:
        ends = np.maximum(self.value(low) - slope * low, self.value(high) - slope * high)
        return ends + self.slack(low, high, slope)

    def below(self, low: Array, high: Array) -> Sequence[Array]:
        return (self.derivative(low / 2 + high / 2),)

    def above(self, low: Array, high: Array) -> Sequence[Array]:
        return (self.chord(low, high),)


@dataclass(frozen=True)
class Softplus(Convex):
    """ln(1 + e^x)."""

    def value(self, x: Array) -> Array:
        return np.maximum(x, 0) + log1p(exp(-np.abs(x)))

    def derivative(self, x: Array) -> Array:
        return Sigmoid().value(x)

    def critical(self, slope: Array) -> Array:
        inner = np.clip(slope, 1e-300, 1 - 1e-16)
        return np.log(inner) - np.log1p(-inner)


@dataclass(frozen=True)
class Elu(Convex):
    """x above 0, alpha (e^x - 1) below, 0 < alpha <= 1."""

    alpha: float

    def least(self, low: Array, high: Array, slope: Array) -> Array:
        return self.two_sided(low, high, slope)

    def value(self, x: Array) -> Array:
        return np.where(x > 0, x, self.alpha * (exp(np.minimum(x, 0)) - 1))

    def derivative(self, x: Array) -> Array:
        return np.where(x > 0, 1.0, self.alpha * exp(np.minimum(x, 0)))

    def critical(self, slope: Array) -> Array:
        return np.log(np.clip(slope / self.alpha, 1e-300, 1))
