"""Input regions: a box, or a box and a ball of l1 or l2, and the least value of rows over them."""

from dataclasses import dataclass

import numpy as np

from withstand.checker.rounding import INFLATE, LARGE, TINY, UNIT, gamma, middle, up
from withstand.core.errors import InputError

Array = np.ndarray

NORMS = ("box", "l1", "l2")


@dataclass(frozen=True, eq=False)
class Region:
    """All x with low <= x <= high [n] and, where the norm is l1 or l2, |x - centre| <= radius.

    Raises InputError for edges that are no finite numbers in order, or another norm.
    """

    low: Array
    high: Array
    norm: str = "box"
    centre: Array | None = None
    radius: float = 0.0

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InputError(f"The region's norm is {self.norm[:20]!r}; the checker knows {', '.join(NORMS)}.")
        edges = [self.low, self.high] if self.norm == "box" else [self.low, self.high, self.centre]
        if any(e is None or e.shape != self.low.shape or not np.isfinite(e).all() for e in edges):
            raise InputError("The region's edges are not finite numbers, as many as there are inputs.")
        if (self.low > self.high).any() or not 0 <= self.radius <= LARGE:
            raise InputError("The region is empty: a lower edge is above its upper edge, or the radius is no radius.")

    def least(self, rows: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """A lower bound of rows [K, R, n] times x over the part of the region in the boxes low, high [K, n]: a number
        and the slack to take off it, both [K, R]."""
        plain = _in_box(rows, low, high)
        slack = np.zeros_like(plain)
        if self.norm == "box":
            return plain, slack
        inner = self._near(rows, low, high)
        ball, errors = self._in_ball(inner)
        rest = _in_box(rows - inner, low, high)
        errors = errors + 4 * UNIT * (np.abs(ball) + np.abs(rest))
        better = ball + rest - errors > plain
        return np.where(better, ball + rest, plain), np.where(better, errors, slack)

    def _in_ball(self, rows: Array) -> tuple[Array, Array]:
        """The least value of rows over the ball alone, by the dual norm, and its errors."""
        assert self.centre is not None
        terms = gamma(rows.shape[-1] + 4)
        size = np.abs(rows)
        dual = size.max(-1) if self.norm == "l1" else np.sqrt((rows * rows).sum(-1))
        reach = up(self.radius * dual * (1 + terms)) + TINY
        return rows @ self.centre - reach, terms * (size @ np.abs(self.centre)) * INFLATE

    def _near(self, rows: Array, low: Array, high: Array) -> Array:
        """The part of the rows to leave to the ball; the rest is left to the box.

        The least value over the intersection is the best sum of the two over all such parts, so any part is sound. The
        best one cuts the rows where the coordinate meets its edge before the ball is used up.
        """
        assert self.centre is not None
        size = np.abs(rows)
        room = np.where(rows > 0, (self.centre - low)[:, None], (high - self.centre)[:, None]).clip(min=0)
        if self.norm == "l1":
            order = np.argsort(-size, axis=-1)
            used = np.take_along_axis(room, order, -1).cumsum(-1)
            place = (used < self.radius).sum(-1, keepdims=True)
            ordered = np.take_along_axis(size, order, -1)
            level = np.where(
                place < size.shape[-1], np.take_along_axis(ordered, np.minimum(place, size.shape[-1] - 1), -1), 0.0
            )
            return np.clip(rows, -level, level)
        return np.sign(rows) * np.minimum(size, room * self._multiplier(size, room))

    def _multiplier(self, size: Array, room: Array) -> Array:
        """The m with sum_i min(size_i / m, room_i)^2 = radius^2; 0 where all rooms together are less."""
        meet = np.minimum(room / np.maximum(size, 1e-300), 1e100)
        order = np.argsort(meet, axis=-1)
        meet, size, room = (np.take_along_axis(a, order, -1) for a in (meet, size, room))
        full = (room**2).cumsum(-1)
        free = (size**2)[..., ::-1].cumsum(-1)[..., ::-1]
        zero = np.zeros_like(full[..., :1])
        full, free = np.concatenate([zero, full], -1), np.concatenate([free, zero], -1)
        met = (full[..., 1:] + meet**2 * free[..., 1:] <= self.radius**2).sum(-1, keepdims=True)
        rest = np.maximum(self.radius**2 - np.take_along_axis(full, met, -1), 1e-300)
        return np.sqrt(np.take_along_axis(free, met, -1) / rest)


def _in_box(rows: Array, low: Array, high: Array) -> Array:
    """A lower bound of rows [K, R, n] over boxes, to be rounded down once more.

    The radius is widened by what both dot products, and one rounding of the rows, can be wrong by.
    """
    centre, radius = middle(low, high)
    terms = gamma(rows.shape[-1] + 2)
    reach = up(radius * (1 + 4 * terms) + 2 * terms * np.abs(centre)) + TINY
    return ((rows @ centre[:, :, None]) - np.abs(rows) @ reach[:, :, None])[..., 0]
