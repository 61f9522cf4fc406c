"""The maximum of several values, as in max pooling, and planes below and above it that hold exactly."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from withstand.checker.maps import Take
from withstand.checker.rounding import INFLATE, LARGE, WIDEN, gamma, up

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Planes:
    """Value i of M is at least its argument number `chosen` [K, M], and at most slope [K, M, taps] . arguments + offset
    [K, M]. takes: for each tap the arguments of all M."""

    takes: tuple[Take, ...]
    chosen: Array
    slope: Array
    offset: Array

    def of(self, index: Array) -> "Planes":
        return Planes(self.takes, self.chosen[index], self.slope[index], self.offset[index])

    def back(self, rows: Array, magnitude: Array) -> tuple[Array, Array, Array]:
        """By the chosen argument where coefficients are positive, by the plane above where they are negative."""
        negative = np.minimum(rows, 0)
        positive = rows - negative
        flat = (-1, rows.shape[2])
        found, slack = np.zeros((*rows.shape[:2], len(magnitude))), np.zeros(rows.shape[:2])
        for tap, take in enumerate(self.takes):
            part = positive * (self.chosen == tap)[:, None] + negative * self.slope[:, None, :, tap]
            found += take.backward(part.reshape(flat)).reshape(found.shape)
            slack += np.abs(part) @ take.forward(magnitude[None])[0]
        errors = gamma(len(self.takes) + max(take.roundings_backward for take in self.takes) + 2) * INFLATE
        constant = (negative @ self.offset[:, :, None])[..., 0]
        size = (np.abs(negative) @ np.abs(self.offset)[:, :, None])[..., 0]
        return found, constant, errors * slack + gamma(rows.shape[2] + 2) * INFLATE * size


@dataclass(frozen=True, eq=False)
class Maximum:
    """Value i of M is the largest of the arguments index[i] [M, taps] of a vector of `size` (-1: no argument)."""

    index: Array
    size: int
    curved = False

    @cached_property
    def _takes(self) -> tuple[Take, ...]:
        return tuple(Take(column, self.size) for column in self.index.T)

    def _gather(self, x: Array) -> Array:
        """Arguments [K, M, taps], less than any number that is bounded where there is none."""
        return np.where(self.index >= 0, x[:, self.index], -2 * LARGE)

    def value(self, x: Array) -> Array:
        return self._gather(x).max(2)

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        return self.value(low), self.value(high)

    def undecided(self, low: Array, high: Array) -> Array:
        """The arguments that may be the largest, where several may."""
        lows, highs = self._gather(low), self._gather(high)
        _, decided = _chosen(lows, highs)
        rivals = (highs > lows.max(2, keepdims=True)) & ~decided[:, :, None]
        found = np.zeros(low.shape, bool)
        for tap, take in enumerate(self._takes):
            found |= take.backward(rivals[:, :, tap].astype(np.float64)) > 0
        return found

    def lines(self, low: Array, high: Array, slope: Array | None) -> Planes:
        """The argument of the largest lower bound lies below. Above lies d + sum of c_i (x_i - low_i) for any
        d >= max low_i and c_i >= max(high_i - d, 0) / (high_i - low_i), because it is so at both ends of every x_i, the
        other terms being >= 0. Slopes are not asked for."""
        lows, highs = self._gather(low), self._gather(high)
        chosen, decided = _chosen(lows, highs)
        level = _level(lows, highs)
        width = np.where(highs > lows, highs - lows, 1.0)
        steep = np.maximum(highs - level[:, :, None], 0.0) / width * WIDEN
        steep = np.where(decided[:, :, None], np.arange(lows.shape[2]) == chosen[:, :, None], steep)
        level, terms = np.where(decided, 0.0, level), np.where(decided[:, :, None], 0.0, steep * lows)
        errors = gamma(lows.shape[2] + 3) * (np.abs(level) + np.abs(terms).sum(2)) * INFLATE
        return Planes(self._takes, chosen, steep, np.where(decided, 0.0, up(level - terms.sum(2) + errors)))

    def parallel(self, low: Array, high: Array) -> Array:
        return np.full(low.shape, np.nan)


def _chosen(lows: Array, highs: Array) -> tuple[Array, Array]:
    """The argument [K, M] of the largest lower bound, and whether no other can be larger.

    Of several that none exceeds it is the one of the largest upper bound. Where others can be larger it is the one of
    the least upper bound, which is better behind ReLUs, whose own lower lines are loose.
    """
    top = lows == lows.max(2, keepdims=True)
    largest = np.where(top, highs, -np.inf).argmax(2)
    others = np.where(np.arange(lows.shape[2]) == largest[:, :, None], -np.inf, highs)
    decided = others.max(2) <= lows.max(2)
    return np.where(decided, largest, np.where(top, -highs, -np.inf).argmax(2)), decided


def _level(lows: Array, highs: Array) -> Array:
    """The d [K, M] whose plane is least in the middle: at most two of the upper bounds exceed it; and of those d the
    one whose slopes add up to 1, for neighbours tend to move together."""
    floor = lows.max(2)
    if lows.shape[2] < 2:
        return floor
    order = np.argsort(-highs, axis=2)[:, :, :3]
    top = np.take_along_axis(highs, order, 2)
    width = top - np.take_along_axis(lows, order, 2)
    if top.shape[2] > 2:
        floor = np.maximum(floor, top[:, :, 2])
    both = width[:, :, 0] + width[:, :, 1]
    even = top[:, :, 0] * width[:, :, 1] + top[:, :, 1] * width[:, :, 0] - width[:, :, 0] * width[:, :, 1]
    even = np.where(both > 0, even / np.where(both > 0, both, 1.0), floor)
    return np.maximum(floor, np.minimum(even, top[:, :, 1]))
