"""Threats that limit how many pixels change, or where, and not by how much: L0 here, patches in a file of their own."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.rng import RowRandom
from withstand.core.shapes import flattened
from withstand.core.spatial import as_images, from_images
from withstand.core.threat import Threat, products

EDGE = 1e-6
"""What a radius may miss a whole number of pixels by."""

STRIDE = 20
"""Widths of the domain in a step as long as the radius: measured, with PGD and APGD on networks for digits."""


class Sparse(Threat):
    """What L0 and patches share. Which pixels change is chosen by `choose`; those may take any value of the domain.

    Pixels are laid out as [B, R, height, width], R sets of numbers a row; all channels of a pixel change together.
    """

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.domain)):
            raise InputError(f"Pixels of a threat {self.norm} may take any value; give its domain, as in [0,1].")

    @abstractmethod
    def maps(self, x: Tensor) -> Tensor:
        """x [B, *shape] as [B, channels, height, width]."""

    @abstractmethod
    def choose(self, gain: Tensor) -> Tensor:
        """The pixels that may change together and whose gains [B, R, height, width], none negative, add up to most:
        bool of the same shape."""

    @abstractmethod
    def most(self, gain: Tensor) -> Tensor:
        """The sum [B, R] of the gains that `choose` chooses."""

    @abstractmethod
    def somewhere(self, maps: Tensor, rng: RowRandom) -> Tensor:
        """Random pixels of maps [B, channels, height, width] that may change together: bool [B, 1, height, width]."""

    @property
    def reach(self) -> float:
        return self.radius + EDGE

    def reaches(self, like: Tensor) -> Tensor:
        return (self.radii(like.double()) + EDGE).to(like.dtype)

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        """Uniform values of the domain in random pixels."""
        low, high = self.domain
        value = low + (high - low) * rng.uniform(x0.shape[1:], x0.dtype)
        return self.paint(x0, self._clamp(value), self.somewhere(self.maps(x0), rng))

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the threat in l2 (Croce and Hein 2019, arXiv:1909.05040)."""
        near = self._clamp(x)
        saved = self.maps((near - x0) * (2 * x - x0 - near))  # (x - x0)^2 - (x - near)^2
        return self.paint(x0, near, self.choose(saved.sum(1, keepdim=True)))

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        """The whole gradient: which pixels move is for `project` to choose. `radius` such steps carry its largest entry
        `STRIDE` times through the domain, so that an attack's first steps reach its edges."""
        grad = self.bar(grad, x)
        size = grad.abs().flatten(1).amax(1).reshape(-1, *(1,) * (grad.dim() - 1))
        length = STRIDE * (self.domain[1] - self.domain[0]) / self.radii(grad).clamp(min=EDGE)
        return grad / size.clamp(min=torch.finfo(grad.dtype).tiny) * length

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        low, high = self.domain
        best = torch.where(grad > 0, low, torch.where(grad < 0, high, x0))
        gain = self.maps((x0.double() - best) * grad).sum(1, keepdim=True)
        return self.paint(x0, best, self.choose(gain.clamp_(min=0)))

    def box(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (torch.full_like(x0, edge) for edge in self.domain)
        any_may = self.most(torch.ones_like(self.maps(x0)[:, :1])) > 0
        any_may = any_may.reshape(-1, *(1,) * (x0.dim() - 1))
        return torch.where(any_may, low, x0), torch.where(any_may, high, x0)

    def lowest(self, x0: Tensor, rows: Tensor) -> Tensor:
        return self._lowest(self.maps(x0), self.maps(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]))

    def lowest_in_windows(self, x0: Tensor, rows: Tensor) -> Tensor:
        return self._lowest(x0.movedim(-1, -3), rows.movedim(-1, -3))

    def _lowest(self, maps: Tensor, rows: Tensor) -> Tensor:
        """Of rows [B, R, channels, height, width] over maps [B, channels, height, width]."""
        up, down = ((maps - edge)[:, None] for edge in self.domain)
        gain = (rows.clamp(min=0) * up).addcmul_(rows.clamp(max=0), down).clamp_(min=0).sum(2)
        return products(flattened(rows, 2), flattened(maps)) - self.most(gain)

    def deploy(self, x0: Tensor, x: Tensor) -> Tensor:
        """Pixels that have not changed stay as they are to the bit."""
        return x if self.levels is None else torch.where(x == x0, x0, super().deploy(x0, x))

    def paint(self, x0: Tensor, x: Tensor, pixels: Tensor) -> Tensor:
        """x in the pixels bool [B, 1, height, width], x0 elsewhere."""
        return self.unmapped(torch.where(pixels, self.maps(x), self.maps(x0)), x0)

    def unmapped(self, maps: Tensor, like: Tensor) -> Tensor:
        """Maps as points of the shape of `like` [B, *shape]: the reverse of `maps`."""
        return from_images(maps, like) if like.dim() == 4 else maps.reshape(like.shape)


@dataclass(frozen=True)
class L0(Sparse):
    """At most `radius` pixels change, to any value of the domain, which must be finite.

    A pixel is a position of the last two axes of an input [channels, height, width], of the first two of an input
    [height, width, channels] of 1, 3 or 4 channels; of inputs of other shapes it is a single number. The distance is
    the count of pixels that changed.
    """

    norm = "l0"

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isfinite(self.radius) and self.radius % 1:
            raise InputError(f"An l0 threat counts pixels, and {self.radius:g} is no count; give a whole number.")

    def _amount(self, number: Callable[[float], str]) -> str:
        return f"{self.radius:.0f}"

    def at(self, radius: float | Tensor) -> Threat:
        """With a count, rounded down where it is no whole number, or with one for every row [B]."""
        return super().at(math.floor(radius + EDGE) if not isinstance(radius, Tensor) and radius < math.inf else radius)

    def rounded(self, radii: Tensor) -> Tensor:
        return (radii + EDGE).floor()

    def widest(self, x0: Tensor) -> float:
        return float(self.maps(x0)[0, 0].numel())

    def maps(self, x: Tensor) -> Tensor:
        return as_images(x) if x.dim() == 4 else x.reshape(len(x), 1, 1, -1)

    def count(self, like: Tensor) -> Tensor:
        """How many pixels may change: [B, 1, 1], or [1, 1, 1]."""
        return self.radii(like[:, :1, :1, 0].double()).add(EDGE).floor()

    def choose(self, gain: Tensor) -> Tensor:
        flat, count = flattened(gain, 2), self.count(gain)
        place = torch.arange(flat.shape[2], device=gain.device)
        if bool((count > place[-1]).all()):
            return torch.ones_like(gain, dtype=torch.bool)
        order = flat.argsort(dim=2, descending=True, stable=True)
        taken = (place < count).expand(flat.shape)
        return torch.zeros_like(taken, dtype=torch.bool).scatter(2, order, taken).reshape(gain.shape)

    def most(self, gain: Tensor) -> Tensor:
        flat, count = flattened(gain, 2), self.count(gain)
        held = int(count.amax().clamp(0, flat.shape[2])) if len(flat) else 0
        best = flat.topk(held, dim=2).values
        return (best * (torch.arange(held, device=gain.device) < count)).sum(2)

    def somewhere(self, maps: Tensor, rng: RowRandom) -> Tensor:
        return self.choose(rng.uniform((1, *maps.shape[2:])))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        return self.maps(x != x0).any(1).flatten(1).sum(1).double()
