"""Slopes estimated from scores: random directions, tried on both sides of a point."""

import math
from collections.abc import Callable, Generator

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Loss, Told
from withstand.core.threat import Threat, rowwise

NUMBERS = 2**17
"""Numbers a row that one ask holds at most, which bounds its memory whatever the input's size."""

Draw = Callable[[tuple[int, ...], torch.dtype], Tensor]
"""Draws random numbers of a shape for every row, such as `RowRandom.normal`."""


def points_an_ask(shape: tuple[int, ...], most: int) -> int:
    """How many points of a shape a row may hold in one ask, at least 1 and at most `most`."""
    return max(1, min(most, NUMBERS // max(1, math.prod(shape))))


def span(threat: Threat) -> float:
    """The width of the domain, 1 where it has no end."""
    low, high = threat.domain
    return high - low if math.isfinite(high - low) else 1.0


def probe_width(threat: Threat, share: float) -> float:
    """A share of the domain, at least one step of the grid of a quantised input."""
    return max(share * span(threat), threat.grain)


def total(parts: Tensor) -> Tensor:
    """The sum over axis 1 of [B, P, ...], added in an order that depends on P alone, so that a row's bits do not
    depend on the batch."""
    while parts.shape[1] > 1:
        half = parts.shape[1] // 2
        rest = parts[:, 2 * half :]
        parts = torch.cat([parts[:, :half] + parts[:, half : 2 * half], rest], 1)
    return parts[:, 0]


def several(values: Tensor, points: Tensor) -> Tensor:
    """Values [B, P] shaped to broadcast against points [B, P, *shape]."""
    return values.reshape(*values.shape, *(1,) * (points.dim() - 2))


def projected(threat: Threat, x0: Tensor, points: Tensor) -> Tensor:
    """Several points a row [B, P, *shape], each moved into the threat."""
    rows = torch.arange(len(x0), device=x0.device).repeat_interleave(points.shape[1])
    flat = threat.pick(rows, x0).project(x0[rows], points.reshape(len(rows), *x0.shape[1:]))
    return flat.reshape(points.shape)


def slope(
    x0: Tensor, x: Tensor, threat: Threat, draw: Draw, pairs: int, width: float, loss: Loss
) -> Generator[Ask, Told, Tensor]:
    """The slope of a loss at x [B, *shape] from pairs of probes x +- width u: the mean of (difference) / (2 width) u.

    draw: makes the directions u, whose coordinates must be independent with mean 0 and variance 1; then its mean is
    the gradient. Probes stay in the threat, which halves the slope across its edges but keeps its sign.
    """
    shape, sum_of, left = tuple(x.shape[1:]), torch.zeros_like(x), pairs
    while left:
        part = points_an_ask((2, *shape), left)
        u = draw((part, *shape), x.dtype)
        probes = torch.cat([x[:, None] + width * u, x[:, None] - width * u], 1)
        told = yield Ask(projected(threat, x0, probes), loss=loss)
        up, down = told.loss.chunk(2, 1)
        sum_of = sum_of + total(several((up - down).nan_to_num(0.0, 0.0, 0.0), u) * u)
        left -= part
    return sum_of / (2 * width * pairs)


class Adam:
    """Adam's steps (Kingma and Ba 2015, arXiv:1412.6980) for points [B, ...], with a count of steps per row or finer,
    so that a part may begin anew."""

    def __init__(self, like: Tensor) -> None:
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)
        self.count = rowwise(like.new_zeros(len(like)), like)

    def step(self, slope: Tensor) -> Tensor:
        """The step of length about 1 a coordinate, to be taken downhill."""
        self.count = self.count + 1
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.999 * self.square + 0.001 * slope * slope
        mean = self.mean / self._share(0.9)
        return mean / ((self.square / self._share(0.999)).sqrt() + 1e-8)

    def _share(self, decay: float) -> Tensor:
        """1 - decay**count, by a function that rounds a number alike wherever it is in a tensor, unlike powers."""
        return -(self.count * math.log(decay)).expm1()

    def forget(self, rows: Tensor) -> None:
        """Begin anew at rows bool [B]."""
        for state in (self.mean, self.square, self.count):
            state[rows] = 0.0
