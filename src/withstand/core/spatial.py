"""Spatial threats: pixels change their places instead of their values. Points are moves, `render` makes the inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from withstand.core.images import channels_last, image_shape
from withstand.core.rng import RowRandom
from withstand.core.threat import Threat, rowwise, vector_norm


@dataclass(frozen=True)
class Moves(Threat):
    """What threats of moves share: the domain bounds inputs, not moves, and nothing is proved."""

    provable = False

    def contains(self, x0: Tensor, x: Tensor) -> Tensor:
        distance = self.distance(x0, x)
        return distance <= self.reaches(distance)

    def box(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.domain
        return torch.full_like(x0, low), torch.full_like(x0, high)

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        return rows.new_full(rows.shape[:2], -torch.inf)


@dataclass(frozen=True)
class Flow(Moves):
    """Every pixel takes the value of a place nearby, and neighbours move alike (Xiao et al. 2018, arXiv:1801.02612).

    Moves are flow fields [B, 2, height, width] in pixels, down and across: a pixel takes the value its flow points at,
    bilinear between pixels, from the edge beyond it. Their size is the smoothness of Zhang et al. 2020
    (arXiv:2010.07788): for each of the four neighbours the root of the mean squared difference, the largest of the
    four. Beyond the edge flows are 0, so that moving the whole picture is not free.
    """

    norm = "flow"

    def oversize(self, x0: Tensor) -> str | None:
        side = max(as_images(x0).shape[2:])
        return f"the picture ends after {side} pixels; give a smaller flow" if self.radius > side else None

    def start(self, x0: Tensor) -> Tensor:
        _, height, width = image_shape(x0.shape[1:])
        return x0.new_zeros(len(x0), 2, height, width)

    def render(self, x0: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        down, across = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (height, width))
        images = as_images(x0)
        moved = bilinear(images, down[:, None] + x[:, 0], across + x[:, 1])
        return self._clamp(from_images(moved, x0))

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        """Uniform in the ellipsoid of the mean of the four squared differences, brought into the threat."""
        shape = self.start(x0).shape[1:]
        rough = rng.normal(shape, x0.dtype)
        length = rng.radius(math.prod(shape), x0.dtype)
        smooth = _smoothed(rough / rowwise(vector_norm(rough, 2).clamp(min=1e-12), rough), 0.5)
        return self.project(x0, smooth * rowwise(length, rough) * self.radii(rough))

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        size = roughness(x)
        return x * rowwise((self.radii(size) / size.clamp(min=1e-300)).clamp(max=1).to(x.dtype), x)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        """Exact for the mean of the four squared differences in place of their largest."""
        largest = grad.flatten(1).abs().amax(1)
        step = _smoothed(grad / rowwise(largest.clamp(min=torch.finfo(grad.dtype).tiny), grad), 1.0)
        return step / rowwise(roughness(step).clamp(min=1e-12).to(step.dtype), step)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        return self.project(x0, -self.radii(grad) * self.steepest(grad))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return roughness(x)


@dataclass(frozen=True)
class Spatial(Moves):
    """The whole picture is turned and shifted (Engstrom et al. 2019, arXiv:1712.02779).

    Moves are [B, 3]: degrees counter-clockwise about the middle, then pixels to the right and down. They are bilinear
    between pixels; what comes in from outside has the lowest value of the domain (0 where it has none). The radius is a
    factor on the limits `degrees` and `pixels`.
    """

    radius: float = 1.0
    degrees: float = 30.0
    pixels: float = 3.0

    norm = "spatial"

    def _amount(self, number: Callable[[float], str]) -> str:
        return f"{number(self.degrees * self.radius)},{number(self.pixels * self.radius)}"

    @property
    def limits(self) -> tuple[float, float, float]:
        """The largest amount of each part of a move at radius 1."""
        return self.degrees, self.pixels, self.pixels

    def oversize(self, x0: Tensor) -> str | None:
        side = max(as_images(x0).shape[2:])
        if self.degrees * self.radius > 180:
            return "a turn by 180 degrees is the largest there is; give at most so many"
        if self.pixels * self.radius > side:
            return f"a shift by {side} pixels leaves nothing of the picture; give a smaller one"
        return None

    @property
    def fill(self) -> float:
        """The value of what comes in from outside the picture."""
        return self.domain[0] if math.isfinite(self.domain[0]) else 0.0

    def start(self, x0: Tensor) -> Tensor:
        return x0.new_zeros(len(x0), 3)

    def render(self, x0: Tensor, x: Tensor) -> Tensor:
        images = torch.nn.functional.pad(as_images(x0), (1, 1, 1, 1), value=self.fill)
        height, width = (n - 2 for n in images.shape[2:])
        turn = torch.deg2rad(x[:, 0])[:, None, None]
        down, across = (torch.arange(n, device=x.device, dtype=x.dtype) - (n - 1) / 2 for n in (height, width))
        v, u = down[:, None] - x[:, 2, None, None], across - x[:, 1, None, None]
        back_down = torch.cos(turn) * v + torch.sin(turn) * u + (height + 1) / 2
        back_across = torch.cos(turn) * u - torch.sin(turn) * v + (width + 1) / 2
        return self._clamp(from_images(bilinear(images, back_down, back_across), x0))

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        part = rng.uniform((3,), x0.dtype) * 2 - 1
        return part * part.new_tensor(self.limits) * self.radii(part)

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        limits = x.new_tensor(self.limits) * self.radii(x)
        return x.clamp(-limits, limits)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        return grad.sign() * grad.new_tensor(self.limits)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        return -self.radii(grad) * self.steepest(grad)

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        limits = x.new_tensor(self.limits, dtype=torch.float64)
        return (x.double().abs() / limits).nan_to_num(0.0, torch.inf).amax(1)


def as_images(x: Tensor) -> Tensor:
    """Samples [B, *shape] as pictures [B, channels, height, width]."""
    x = x.movedim(3, 1) if channels_last(x.shape[1:]) else x
    return x.reshape(len(x), *image_shape(x.shape[1:]))


def from_images(images: Tensor, like: Tensor) -> Tensor:
    """Pictures [B, channels, height, width] as samples of the shape of `like` [*, *shape]."""
    return images.movedim(1, 3) if channels_last(like.shape[1:]) else images.reshape(len(images), *like.shape[1:])


def bilinear(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Values of images [B, C, H, W] at places [B, h, w] (or [1, h, w]), in pixels, kept inside: [B, C, h, w].

    Exact where places are whole numbers.
    """
    height, width = images.shape[2:]
    shape = torch.broadcast_shapes(down.shape, across.shape)
    parts = [_neighbours(place, size) for place, size in ((down, height), (across, width))]
    (top, bottom, v), (left, right, u) = ([part.expand(shape) for part in three] for three in parts)
    flat, lead = images.flatten(2), (len(images), images.shape[1])

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows * width + columns).flatten(1)[:, None]
        return flat.gather(2, index.expand(*lead, -1)).reshape(*lead, *shape[1:])

    upper, lower = (torch.lerp(at(row, left), at(row, right), u[:, None]) for row in (top, bottom))
    return torch.lerp(upper, lower, v[:, None])


def _neighbours(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The whole numbers around each place, kept in [0, size - 1], and how far it is from the first to the second."""
    place = place.nan_to_num().clamp(0, size - 1)
    first = place.detach().floor().clamp(max=max(0, size - 2))
    index = first.long()
    return index, (index + 1).clamp(max=size - 1), place - first


def roughness(flow: Tensor) -> Tensor:
    """The size [B] of flow fields [B, 2, H, W] (see `Flow`), in float64."""
    flow = flow.double()
    squares = (flow**2).sum(1)
    down, across = ((flow.diff(dim=axis) ** 2).sum((1, 2, 3)) for axis in (2, 3))
    edges = [squares[:, 0].sum(1), squares[:, -1].sum(1), squares[:, :, 0].sum(1), squares[:, :, -1].sum(1)]
    sums = [down + edges[0], down + edges[1], across + edges[2], across + edges[3]]
    return (torch.stack(sums).amax(0) / (flow.shape[2] * flow.shape[3])).sqrt()


def _smoothed(flow: Tensor, power: float) -> Tensor:
    """The inverse to some power of the quadratic form 'mean of the four squared differences', applied to a flow."""
    height, width = flow.shape[2:]
    (down, rows), (across, columns) = (_modes(n, flow.dtype, flow.device) for n in (height, width))
    strength = ((down[:, None] + across) / (2 * height * width)) ** -power
    each = (*flow.shape[:2], width, width)  # a product a row, so that rounding does not depend on the batch
    return rows @ (rows.T @ flow @ columns.expand(each) * strength) @ columns.T.expand(each)


@lru_cache(maxsize=8)
def _modes(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the squared differences along one axis, halved beyond the edges."""
    form = torch.diag(torch.full((size,), 2.0, dtype=torch.float64))
    form -= torch.diag(torch.ones(size - 1, dtype=torch.float64), 1) + torch.diag(torch.ones(size - 1).double(), -1)
    form[0, 0] -= 0.5
    form[-1, -1] -= 0.5
    values, vectors = torch.linalg.eigh(form)
    return values.to(device, dtype), vectors.to(device, dtype)
