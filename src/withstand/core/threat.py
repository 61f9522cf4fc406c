"""Threats: the set of inputs allowed around x0, with all that attacks and proofs need to know of it."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.rng import RowRandom
from withstand.core.tolerance import GRID, reach


def rowwise(values: Tensor, like: Tensor) -> Tensor:
    """A [B] tensor shaped to broadcast against `like` [B, ...]."""
    return values.reshape(-1, *(1,) * (like.dim() - 1))


def _norm(delta: Tensor, p: float) -> Tensor:
    return torch.linalg.vector_norm(delta.flatten(1), p, dim=1)


@dataclass(frozen=True)
class Threat(ABC):
    """All x within `radius` of x0 and inside the data domain.

    radius: in the units of the data (images: [0, 1]).
    domain: lowest and highest value an input may have.
    levels: 255 for inputs stored in 8 bits: only multiples of 1/255 can reach the model. None: any number can.
    """

    radius: float
    domain: tuple[float, float] = (0.0, 1.0)
    levels: int | None = None

    norm = ""
    anchored = True
    """Whether x0 is itself the sample in question, so that a property violated at x0 makes the question invalid."""

    def __str__(self) -> str:
        text = f"{self.norm}:{self.radius:.6g}"
        if self.domain != (0.0, 1.0):
            text += f"[{self.domain[0]:g},{self.domain[1]:g}]"
        return text + ("@u8" if self.levels == 255 else "")

    def at(self, radius: float) -> "Threat":
        """The same threat with another radius."""
        return replace(self, radius=radius)

    def pick(self, rows: Tensor, x0: Tensor) -> "Threat":
        """The threat of rows [K] of the batch x0 [B, *shape]: itself, unless it was given edges row by row."""
        return self

    @property
    def reach(self) -> float:
        """The radius that membership and proofs use (see `withstand.core.tolerance`)."""
        return reach(self.radius, self.domain)

    @abstractmethod
    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        """One random point of the threat for every row."""

    @abstractmethod
    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """A point of the threat near x (the nearest one for linf, l1 and box)."""

    @abstractmethod
    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        """The step of length 1 in this norm along which a linear function of gradient `grad` grows fastest.

        Rows of zero gradient get a zero step. `x`, where given, bars coordinates that have no room to the domain
        when walking *against* the step, as attacks do.
        """

    @abstractmethod
    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        """The point of the threat, domain included, where a linear function of gradient `grad` is least."""

    @abstractmethod
    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        """Distance of x from x0 in this norm, [B], computed in float64."""

    @abstractmethod
    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        """A sound lower bound of rows . x over the threat: rows [B, R, *shape] to [B, R]."""

    def contains(self, x0: Tensor, x: Tensor) -> Tensor:
        """Whether each row of x lies in the threat (and, if quantised, on its grid): bool [B]."""
        low, high = self.domain
        flat = x.flatten(1)
        inside = (self.distance(x0, x) <= self.reach) & ((flat >= low) & (flat <= high)).all(1)
        if self.levels is not None:
            scaled = flat.double() * self.levels
            inside &= ((scaled - scaled.round()).abs() <= GRID).all(1)
        return inside

    def box(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of every coordinate over the threat."""
        low, high = self.domain
        return (x0 - self.reach).clamp(low, high), (x0 + self.reach).clamp(low, high)

    def deploy(self, x0: Tensor, x: Tensor) -> Tensor:
        """x as it would reach the deployed model: rounded to the grid towards x0 if the input is quantised."""
        if self.levels is None:
            return x
        start = (x0 * self.levels).round()
        steps = (x * self.levels - start + torch.sign(x - x0) * 1e-3).trunc()
        return self._clamp((start + steps) / self.levels)

    def _clamp(self, x: Tensor) -> Tensor:
        return x.clamp(*self.domain)

    def bar(self, grad: Tensor, x: Tensor | None) -> Tensor:
        """`grad` with zeros where a step against it would leave the domain at once."""
        if x is None:
            return grad
        stuck = ((x <= self.domain[0]) & (grad > 0)) | ((x >= self.domain[1]) & (grad < 0))
        return grad.masked_fill(stuck, 0.0)


@dataclass(frozen=True)
class Linf(Threat):
    """Every coordinate may move by `radius`."""

    norm = "linf"

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        return self.project(x0, x0 + (rng.uniform(x0.shape[1:], x0.dtype) * 2 - 1) * self.radius)

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        return x.clamp(x0 - self.radius, x0 + self.radius).clamp_(*self.domain)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        return grad.sign()

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        return self.project(x0, x0 - self.radius * grad.sign())

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return _norm(x.double() - x0.double(), math.inf)

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        low, high = self.box(x0)
        centre, half = (low + high) / 2, (high - low) / 2
        flat = rows.flatten(2)
        reach = torch.bmm(flat.abs(), half.flatten(1)[:, :, None]).squeeze(2)
        return torch.bmm(flat, centre.flatten(1)[:, :, None]).squeeze(2) - reach


class _Ball(Threat):
    """What l1 and l2 share: bounds by the dual norm, or by the enclosing box where that is tighter."""

    dual = math.nan

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        flat, start = rows.flatten(2), x0.flatten(1)[:, :, None]
        by_norm = torch.bmm(flat, start).squeeze(2) - self.reach * torch.linalg.vector_norm(flat, self.dual, dim=2)
        return torch.maximum(by_norm, Linf(self.radius, self.domain).lowest(x0, rows))

    def _room(self, x0: Tensor, grad: Tensor) -> Tensor:
        """How far each coordinate can go against `grad` [B, d] within domain and radius, in float64."""
        low, high = self.domain
        start = x0.flatten(1).double()
        room = torch.where(grad > 0, start - low, high - start).clamp(0, self.radius)
        return room.masked_fill(grad == 0, 0.0)

    def _against(self, x0: Tensor, grad: Tensor, size: Tensor) -> Tensor:
        step = (size * grad.sign()).reshape(x0.shape)
        return self.project(x0, (x0.double() - step).to(x0.dtype))


@dataclass(frozen=True)
class L2(_Ball):
    """The Euclidean length of the change is at most `radius`."""

    norm = "l2"
    dual = 2.0

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        shape = x0.shape[1:]
        step = rng.normal(shape, x0.dtype)
        length = self.radius * rng.uniform((), x0.dtype) ** (1 / max(1, math.prod(shape)))
        return self._clamp(x0 + step * rowwise(length / _norm(step, 2).clamp(min=1e-12), x0))

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """Into the domain first and then towards x0, which gives away no length to coordinates at the edge."""
        delta = self._clamp(x).sub_(x0)
        shrink = (self.radius / _norm(delta, 2).clamp(min=1e-12)).clamp(max=1)
        return delta.mul_(rowwise(shrink, x0)).add_(x0).clamp_(*self.domain)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        grad = self.bar(grad, x)
        length, tiny = _norm(grad, 2), torch.finfo(grad.dtype).tiny
        faint = length < tiny**0.5 * 1e6  # squares this small underflow
        if bool(faint.any()):
            largest = torch.where(faint, _norm(grad, math.inf), 1.0)
            grad = grad / rowwise(largest.clamp(min=tiny), grad)
            length = _norm(grad, 2)
        return grad / rowwise(length.clamp(min=tiny), grad)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        """min(t * |grad|, room) a coordinate, with the t that spends the radius: found by sorting where they meet."""
        flat = grad.flatten(1).double()
        flat = flat / flat.abs().amax(1, keepdim=True).clamp(min=1e-300)
        size, room = flat.abs(), self._room(x0, flat)
        meet, order = (room / size.clamp(min=1e-300)).sort(1)
        full = (room.gather(1, order) ** 2).cumsum(1)  # squared length of the coordinates that met their room
        free = (size.gather(1, order) ** 2).flip(1).cumsum(1).flip(1)
        zero = torch.zeros_like(full[:, :1])
        full, free = torch.cat([zero, full], 1), torch.cat([free, zero], 1)
        met = (full[:, 1:] + meet**2 * free[:, 1:] <= self.radius**2).sum(1, keepdim=True)
        rest = (self.radius**2 - full.gather(1, met)).clamp(min=0)
        scale = (rest / free.gather(1, met).clamp(min=1e-300)).sqrt()
        return self._against(x0, flat, torch.minimum(scale * size, room))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return _norm(x.double() - x0.double(), 2)


@dataclass(frozen=True)
class L1(_Ball):
    """The absolute changes add up to at most `radius`."""

    norm = "l1"
    dual = math.inf

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        shape = x0.shape[1:]
        size = -torch.log1p(-rng.uniform(shape, x0.dtype))
        length = self.radius * rng.uniform((), x0.dtype) ** (1 / max(1, math.prod(shape)))
        step = size * rng.signs(shape, x0.dtype) * rowwise(length / size.flatten(1).sum(1).clamp(min=1e-12), x0)
        return self._clamp(x0 + step)

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """The exact projection on ball and domain together (Croce and Hein 2021, arXiv:2103.01208, proposition 2.1)."""
        low, high = self.domain
        near = self._clamp(x)
        over = (_norm(near - x0, 1) > self.radius).nonzero().squeeze(1)
        if not len(over):
            return near
        start, delta = x0[over].flatten(1), (x[over] - x0[over]).flatten(1)
        size = delta.abs()
        room = torch.where(delta > 0, high - start, start - low).clamp(min=0)
        kept = torch.minimum((size - _soft_threshold(size, room, self.radius)).clamp_(min=0), room)
        kept *= (self.radius / kept.sum(1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        moved = self._clamp(start + kept.copysign(delta))
        moved = torch.where((moved - start).abs() > kept, torch.nextafter(moved, start), moved)  # rounded outwards
        near[over] = moved.reshape(-1, *x0.shape[1:])
        return near

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        """Equal steps on the largest hundredth of the gradient's coordinates, at least one (Tramer and Boneh 2019)."""
        flat = self.bar(grad, x).flatten(1)
        size, index = flat.abs().topk(max(1, flat.shape[1] // 100), dim=1)
        step = torch.zeros_like(flat).scatter_(1, index, flat.gather(1, index).sign() * (size > 0))
        return (step / step.abs().sum(1, keepdim=True).clamp(min=1)).reshape(grad.shape)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        """The coordinates of largest gradient take all the room they have, in turn, until the radius is spent."""
        flat = grad.flatten(1).double()
        order = flat.abs().argsort(dim=1, descending=True, stable=True)
        room = self._room(x0, flat).gather(1, order)
        taken = torch.minimum((self.radius - room.cumsum(1) + room).clamp(min=0), room)
        return self._against(x0, flat, torch.zeros_like(flat).scatter_(1, order, taken))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return _norm(x.double() - x0.double(), 1)


def _soft_threshold(size: Tensor, room: Tensor, radius: float) -> Tensor:
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


@dataclass(frozen=True)
class Box(Threat):
    """Every coordinate between a lower and an upper bound of its own; x0 plays no part beyond its shape.

    `lower`, `upper`: tensors of one sample's shape (or [B, *shape]). Distances are relative: 1 is the box's edge seen
    from its middle. Membership is strict. Edges finer than the type of x are rounded inwards for points and outwards
    for proofs.
    """

    radius: float = 1.0
    domain: tuple[float, float] = (-math.inf, math.inf)
    lower: Tensor | None = None
    upper: Tensor | None = None

    norm = "box"
    anchored = False

    def __post_init__(self) -> None:
        if self.lower is None or self.upper is None:
            raise InputError("A box threat needs both `lower` and `upper`.")
        if bool((self.lower > self.upper).any()):
            raise InputError("A box threat has a lower bound above its upper bound; swap or correct them.")

    def __str__(self) -> str:
        return "box"

    def pick(self, rows: Tensor, x0: Tensor) -> "Box":
        assert self.lower is not None
        assert self.upper is not None
        if self.lower.dim() < x0.dim():
            return self
        lower, upper = (edge[rows.to(edge.device)] for edge in (self.lower, self.upper))
        return replace(self, lower=lower, upper=upper)

    def _edges(self, like: Tensor, inwards: bool = True) -> tuple[Tensor, Tensor]:
        assert self.lower is not None
        assert self.upper is not None
        lower, upper = self.lower.to(like), self.upper.to(like)
        if lower.dtype.itemsize < self.lower.dtype.itemsize:
            lower = _round(self.lower.to(like.device), lower, up=inwards)
            upper = _round(self.upper.to(like.device), upper, up=not inwards)
        return lower.expand_as(like), upper.expand_as(like)

    def box(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        return self._edges(x0, inwards=False)

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        low, high = self._edges(x0)
        return self.project(x0, low + (high - low) * rng.uniform(x0.shape[1:], x0.dtype))

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        low, high = self._edges(x)
        return torch.minimum(torch.maximum(x, low), high)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        low, high = self._edges(grad)
        return grad.sign() * (high - low) / 2

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        low, high = self._edges(grad)
        return torch.where(grad == 0, self.project(x0, x0), torch.where(grad > 0, low, high))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        low, high = (edge.double() for edge in self._edges(x))
        off = (x.double() - (low + high) / 2).abs() / ((high - low) / 2).clamp(min=1e-300)
        return off.flatten(1).amax(1)

    def contains(self, x0: Tensor, x: Tensor) -> Tensor:
        low, high = self._edges(x.double())
        return ((x >= low) & (x <= high)).flatten(1).all(1)

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        low, high = (edge.flatten(1)[:, :, None] for edge in self._edges(x0, inwards=False))
        flat = rows.flatten(2)
        return (torch.bmm(flat.clamp(min=0), low) + torch.bmm(flat.clamp(max=0), high)).squeeze(2)


def _round(exact: Tensor, near: Tensor, up: bool) -> Tensor:
    """`near`, which is `exact` in a coarser type, moved one number up or down where it lies on the wrong side."""
    off = near < exact if up else near > exact
    return torch.where(off, torch.nextafter(near, torch.full_like(near, math.inf if up else -math.inf)), near)
