"""Boxes cut to where linear lower bounds leave room: a point above the threshold in every group needs no more proof."""

import numpy as np

from withstand.checker.rounding import INFLATE, TINY, UNIT, gamma, middle

Array = np.ndarray

ROUNDS = 3
"""How often every line cuts every input; each time the others have less room."""


def cut(low: Array, high: Array, slope: Array, constant: Array, owner: Array) -> tuple[Array, Array]:
    """The boxes low, high [P, n] cut to where all their lines may be <= 0; low > high somewhere where none is left.

    slope [L, n], constant [L]: the lines, slope . x + constant. owner [L]: the box of each, rising; each box has one.
    Rounded outward.
    """
    begin = np.searchsorted(owner, np.arange(len(low)))
    gone = np.zeros(len(low), bool)
    for _ in range(ROUNDS):
        left, right = _edges(low[owner], high[owner], slope, constant)
        below, above = np.maximum.reduceat(left, begin), np.minimum.reduceat(right, begin)
        below, above = np.maximum(low, below), np.minimum(high, above)
        gone |= (below > above).any(1)
        low, high = np.where(gone[:, None], low, below), np.where(gone[:, None], high, above)
    return np.where(gone[:, None], np.inf, low), np.where(gone[:, None], -np.inf, high)


def _edges(low: Array, high: Array, slope: Array, constant: Array) -> tuple[Array, Array]:
    """Between which numbers each input lies wherever one line is <= 0 in its box, the other inputs at their best."""
    centre, radius = middle(low, high)
    steep = np.abs(slope)
    size = (steep * (np.abs(centre) + radius)).sum(1) + np.abs(constant)
    floor = (slope * centre).sum(1) - (steep * radius).sum(1) + constant
    room = (gamma(slope.shape[1] + 8) * size * INFLATE + TINY - floor)[:, None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        width = room / steep * (1 + 8 * UNIT)
    right = np.where(slope > 0, np.nextafter(low + width, np.inf), np.inf)
    left = np.where(slope < 0, np.nextafter(high - width, -np.inf), -np.inf)
    return np.where(room < 0, np.inf, left), np.where(room < 0, -np.inf, right)
