"""Patches: every change lies inside one window of the image, anywhere."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from withstand.core.errors import InputError
from withstand.core.rng import RowRandom
from withstand.core.sparse import EDGE, Sparse
from withstand.core.spatial import as_images
from withstand.core.threat import Threat


@dataclass(frozen=True)
class Patch(Sparse):
    """All pixels that change, to any value of the domain, lie in one window of the size told, anywhere in the image.

    window: height and width of the window at radius 1. radius: a factor on both sides, which are rounded down to whole
    pixels and end at the image's own: `patch:5x5` at radius 2 is `patch:10x10`. The distance is the least factor whose
    window holds every change. Images are read as in `withstand.core.images`: an input of shape [d] is one row. The
    domain must be finite.
    """

    radius: float = 1.0
    window: tuple[int, int] = (1, 1)

    norm = "patch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.window) < 1:
            raise InputError(f"A patch of {self._amount()} pixels has no pixel; give at least 1x1.")

    def _amount(self, number: Callable[[float], str] = repr) -> str:
        return "x".join(str(n) for n in self._sides(self.radius))

    @property
    def limits(self) -> tuple[float, ...]:
        return tuple(map(float, self.window))

    def at(self, radius: float | Tensor) -> Threat:
        """With the least radius of the same window, or with one for every row [B]."""
        if isinstance(radius, Tensor) or radius == math.inf:
            return super().at(radius)
        sides = self._sides(radius)
        return super().at(max(n / side for n, side in zip(sides, self.window, strict=True)) if all(sides) else 0.0)

    def rounded(self, radii: Tensor) -> Tensor:
        tall, wide = (((radii + EDGE) * side).floor() / side for side in self.window)
        return torch.where((tall > 0) & (wide > 0), torch.maximum(tall, wide), 0.0)

    def widest(self, x0: Tensor) -> float:
        return max(n / side for n, side in zip(self.maps(x0).shape[2:], self.window, strict=True))

    def oversize(self, x0: Tensor) -> str | None:
        tall, wide = self.maps(x0).shape[2:]
        sides = self._sides(self.radius)
        if math.inf in sides or (sides[0] <= tall and sides[1] <= wide):
            return None
        return f"the images have {tall}x{wide} pixels; give a window that lies in them"

    def maps(self, x: Tensor) -> Tensor:
        return as_images(x)

    def _sides(self, radius: float) -> tuple[float, float]:
        """Height and width of the window at a radius: whole pixels, or infinite."""
        tall, wide = ((radius + EDGE) * side for side in self.window)
        return tall if tall == math.inf else math.floor(tall), wide if wide == math.inf else math.floor(wide)

    def sides(self, maps: Tensor) -> Tensor:
        """Height and width (perhaps 0) of each row's window in maps [B, R, height, width]: [B, 2]."""
        radii = self.radii(maps[:, :1, 0, 0].double()).expand(len(maps), 1)
        window, size = (torch.tensor(pair, device=maps.device) for pair in (self.window, maps.shape[2:]))
        return ((radii + EDGE) * window).floor().minimum(size).long()

    def _sizes(self, maps: Tensor) -> Iterator[tuple[Tensor, int, int]]:
        """The windows of maps [B, R, height, width] by size: rows [K], height and width."""
        sides = self.sides(maps)
        for tall, wide in sides.unique(dim=0).tolist():
            yield ((sides[:, 0] == tall) & (sides[:, 1] == wide)).nonzero().squeeze(1), tall, wide

    def choose(self, gain: Tensor) -> Tensor:
        chosen = torch.zeros_like(gain, dtype=torch.bool)
        for rows, tall, wide in self._sizes(gain):
            if tall and wide:
                sums = _window_sums(gain[rows], tall, wide)
                best = sums.flatten(2).argmax(2)
                chosen[rows] = _inside(best // sums.shape[3], best % sums.shape[3], tall, wide, gain)
        return chosen

    def most(self, gain: Tensor) -> Tensor:
        best = gain.new_zeros(gain.shape[:2])
        for rows, tall, wide in self._sizes(gain):
            if tall and wide:
                best[rows] = _window_sums(gain[rows], tall, wide).amax((2, 3))
        return best

    def somewhere(self, maps: Tensor, rng: RowRandom) -> Tensor:
        height, width = maps.shape[2:]
        down, across = rng.uniform((1,), torch.float64), rng.uniform((1,), torch.float64)
        chosen = torch.zeros_like(maps[:, :1], dtype=torch.bool)
        for rows, tall, wide in self._sizes(maps):
            top, left = (down[rows] * (height - tall + 1)).long(), (across[rows] * (width - wide + 1)).long()
            chosen[rows] = _inside(top, left, tall, wide, maps)
        return chosen

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        changed = self.maps(x != x0).any(1)
        parts = [_extent(changed.any(axis)) / side for axis, side in zip((2, 1), self.window, strict=True)]
        return torch.maximum(*parts)


def _window_sums(gain: Tensor, tall: int, wide: int) -> Tensor:
    """The sum of every window of maps [K, R, height, width]: [K, R, height - tall + 1, width - wide + 1]."""
    columns = functional.avg_pool2d(gain, (tall, 1), 1, divisor_override=1)
    return functional.avg_pool2d(columns, (1, wide), 1, divisor_override=1)


def _inside(top: Tensor, left: Tensor, tall: int, wide: int, maps: Tensor) -> Tensor:
    """The pixels of windows whose first row and column are top and left [K, R]: bool [K, R, height, width]."""
    height, width = (torch.arange(n, device=maps.device) for n in maps.shape[2:])
    rows = (height >= top[..., None]) & (height < top[..., None] + tall)
    columns = (width >= left[..., None]) & (width < left[..., None] + wide)
    return rows[..., :, None] & columns[..., None, :]


def _extent(some: Tensor) -> Tensor:
    """From the first to the last that is true of bool [B, N], both counted: float64 [B]."""
    place = torch.arange(some.shape[1], device=some.device)
    last = torch.where(some, place, -1).amax(1)
    first = torch.where(some, place, some.shape[1]).amin(1)
    return (last - first + 1).clamp(min=0).double()
