"""Boxes: a lower and an upper edge for every coordinate, as VNN-LIB states them."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.rng import RowRandom
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, products


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
        return flattened(off).amax(1)

    def contains(self, x0: Tensor, x: Tensor) -> Tensor:
        low, high = self._edges(x.double())
        return flattened((x >= low) & (x <= high)).all(1)

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        low, high = (flattened(edge) for edge in self._edges(x0, inwards=False))
        flat = flattened(rows, 2)
        return products(flat.clamp(min=0), low) + products(flat.clamp(max=0), high)


def _round(exact: Tensor, near: Tensor, up: bool) -> Tensor:
    """`near`, which is `exact` in a coarser type, moved one number up or down where it lies on the wrong side."""
    off = near < exact if up else near > exact
    return torch.where(off, torch.nextafter(near, torch.full_like(near, math.inf if up else -math.inf)), near)
