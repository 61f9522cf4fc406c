"""The norm balls linf, l2 and l1 around x0."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.rng import RowRandom
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, products, rowwise, vector_norm


@dataclass(frozen=True)
class Linf(Threat):
    """Every coordinate may move by `radius`."""

    norm = "linf"

    def widest(self, x0: Tensor) -> float:
        return self.domain[1] - self.domain[0]

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        return self.project(x0, x0 + (rng.uniform(x0.shape[1:], x0.dtype) * 2 - 1) * self.radii(x0))

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        radii = self.radii(x0)
        return x.clamp(x0 - radii, x0 + radii).clamp_(*self.domain)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        return grad.sign()

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        return self.project(x0, x0 - self.radii(x0) * grad.sign())

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return vector_norm(x.double() - x0.double(), math.inf)

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        low, high = self.box(x0)
        centre, half = (low + high) / 2, (high - low) / 2
        flat = flattened(rows, 2)
        reach = products(flat.abs(), flattened(half))
        return products(flat, flattened(centre)) - reach


class _Ball(Threat):
    """What l1 and l2 share: bounds by the dual norm, or by the enclosing box where that is tighter."""

    dual = math.nan

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        flat = flattened(rows, 2)
        size = torch.linalg.vector_norm(flat, self.dual, dim=2)
        by_norm = products(flat, flattened(x0)) - self.reaches(size) * size
        return torch.maximum(by_norm, Linf(self.radius, self.domain, scale=self.scale).lowest(x0, rows))

    def _room(self, x0: Tensor, grad: Tensor) -> Tensor:
        """How far each coordinate can go against `grad` [B, d] within domain and radius, in float64."""
        low, high = self.domain
        start = flattened(x0).double()
        room = torch.where(grad > 0, start - low, high - start).clamp(min=0).minimum(self.radii(start))
        return room.masked_fill(grad == 0, 0.0)

    def _against(self, x0: Tensor, grad: Tensor, size: Tensor) -> Tensor:
        step = (size * grad.sign()).reshape(x0.shape)
        return self.project(x0, (x0.double() - step).to(x0.dtype))


@dataclass(frozen=True)
class L2(_Ball):
    """The Euclidean length of the change is at most `radius`."""

    norm = "l2"
    dual = 2.0

    def widest(self, x0: Tensor) -> float:
        return (self.domain[1] - self.domain[0]) * math.sqrt(x0[0].numel())

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        shape = x0.shape[1:]
        step = rng.normal(shape, x0.dtype)
        part = rng.radius(math.prod(shape), x0.dtype)
        length = part * self.radii(part)
        return self._clamp(x0 + step * rowwise(length / vector_norm(step, 2).clamp(min=1e-12), x0))

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """Into the domain first and then towards x0, which gives away no length to coordinates at the edge."""
        delta = self._clamp(x).sub_(x0)
        length = vector_norm(delta, 2)
        shrink = (self.radii(length) / length.clamp(min=1e-12)).clamp(max=1)
        return delta.mul_(rowwise(shrink, x0)).add_(x0).clamp_(*self.domain)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        grad = self.bar(grad, x)
        length, tiny = vector_norm(grad, 2), torch.finfo(grad.dtype).tiny
        faint = length < tiny**0.5 * 1e6  # squares this small underflow
        if bool(faint.any()):
            largest = torch.where(faint, vector_norm(grad, math.inf), 1.0)
            grad = grad / rowwise(largest.clamp(min=tiny), grad)
            length = vector_norm(grad, 2)
        return grad / rowwise(length.clamp(min=tiny), grad)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        """min(t * |grad|, room) a coordinate, with the t that spends the radius: found by sorting where they meet."""
        flat = flattened(grad).double()
        flat = flat / flat.abs().amax(1, keepdim=True).clamp(min=1e-300)
        size, room = flat.abs(), self._room(x0, flat)
        meet, order = (room / size.clamp(min=1e-300)).sort(1)
        full = (room.gather(1, order) ** 2).cumsum(1)  # squared length of the coordinates that met their room
        free = (size.gather(1, order) ** 2).flip(1).cumsum(1).flip(1)
        zero = torch.zeros_like(full[:, :1])
        full, free = torch.cat([zero, full], 1), torch.cat([free, zero], 1)
        square = self.radii(full) ** 2
        met = (full[:, 1:] + meet**2 * free[:, 1:] <= square).sum(1, keepdim=True)
        rest = (square - full.gather(1, met)).clamp(min=0)
        scale = (rest / free.gather(1, met).clamp(min=1e-300)).sqrt()
        return self._against(x0, flat, torch.minimum(scale * size, room))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return vector_norm(x.double() - x0.double(), 2)


@dataclass(frozen=True)
class L1(_Ball):
    """The absolute changes add up to at most `radius`."""

    norm = "l1"
    dual = math.inf

    def widest(self, x0: Tensor) -> float:
        return (self.domain[1] - self.domain[0]) * x0[0].numel()

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        shape = x0.shape[1:]
        size = -torch.log1p(-rng.uniform(shape, x0.dtype))
        part = rng.radius(math.prod(shape), x0.dtype)
        length = part * self.radii(part)
        step = size * rng.signs(shape, x0.dtype) * rowwise(length / flattened(size).sum(1).clamp(min=1e-12), x0)
        return self._clamp(x0 + step)

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """The exact projection on ball and domain together (Croce and Hein 2021, arXiv:2103.01208, proposition 2.1)."""
        low, high = self.domain
        near = self._clamp(x)
        length = vector_norm(near - x0, 1)
        radii = self.radii(length).expand_as(length)
        over = (length > radii).nonzero().squeeze(1)
        if not len(over):
            return near
        start, delta = flattened(x0[over]), flattened(x[over] - x0[over])
        size, radius = delta.abs(), radii[over][:, None]
        room = torch.where(delta > 0, high - start, start - low).clamp(min=0)
        kept = torch.minimum((size - _soft_threshold(size, room, radius)).clamp_(min=0), room)
        kept *= (radius / kept.sum(1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        moved = self._clamp(start + kept.copysign(delta))
        moved = torch.where((moved - start).abs() > kept, torch.nextafter(moved, start), moved)  # rounded outwards
        near[over] = moved.reshape(-1, *x0.shape[1:])
        return near

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        """Equal steps on the largest hundredth of the gradient's coordinates, at least one (Tramer and Boneh 2019)."""
        flat = flattened(self.bar(grad, x))
        size, index = flat.abs().topk(max(1, flat.shape[1] // 100), dim=1)
        step = torch.zeros_like(flat).scatter_(1, index, flat.gather(1, index).sign() * (size > 0))
        return (step / step.abs().sum(1, keepdim=True).clamp(min=1)).reshape(grad.shape)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        """The coordinates of largest gradient take all the room they have, in turn, until the radius is spent."""
        flat = flattened(grad).double()
        order = flat.abs().argsort(dim=1, descending=True, stable=True)
        room = self._room(x0, flat).gather(1, order)
        taken = torch.minimum((self.radii(room) - room.cumsum(1) + room).clamp(min=0), room)
        return self._against(x0, flat, torch.zeros_like(flat).scatter_(1, order, taken))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return vector_norm(x.double() - x0.double(), 1)


def _soft_threshold(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """The cuts c >= 0 [B, 1] with sum_i min(max(size_i - c, 0), room_i) = radius, by sorting the breakpoints."""
    # As c grows, coordinate i stays at room_i until c = size_i - room_i, then falls with slope -1 until c = size_i.
    breaks = torch.cat([(size - room).clamp(min=0), size], 1)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1)
    breaks, order = breaks.sort(1)
    slope = slopes.gather(1, order).cumsum(1)
    drop = (slope[:, :-1] * breaks.diff(dim=1)).cumsum(1)
    drop = torch.cat([torch.zeros_like(drop[:, :1]), drop], 1)
    excess = torch.minimum(size, room).sum(1, keepdim=True) - radius
    piece = (drop <= excess).sum(1, keepdim=True).sub(1).clamp(min=0)
    start, used, rate = (t.gather(1, piece) for t in (breaks, drop, slope))
    return start + (excess - used) / rate.clamp(min=1)
