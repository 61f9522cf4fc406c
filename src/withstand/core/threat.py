"""Threats: the set of inputs allowed around x0, with all that attacks and proofs need to know of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from withstand.core.rng import RowRandom
from withstand.core.shapes import flattened
from withstand.core.tolerance import GRID, grid, reach


def rowwise(values: Tensor, like: Tensor) -> Tensor:
    """A [B] tensor shaped to broadcast against `like` [B, ...]."""
    return values.reshape(-1, *(1,) * (like.dim() - 1))


def products(rows: Tensor, x: Tensor) -> Tensor:
    """rows [B, R, n] times x [B, n]: [B, R]. With x on the left, which torch multiplies many times faster."""
    return torch.bmm(x[:, None], rows.mT).squeeze(1)


def vector_norm(delta: Tensor, p: float) -> Tensor:
    """The norm [B] of every row of delta [B, ...]."""
    return torch.linalg.vector_norm(flattened(delta), p, dim=1)


@dataclass(frozen=True)
class Threat(ABC):
    """All x within `radius` of x0 and inside the data domain.

    radius: in the units of the data (images: [0, 1]).
    domain: lowest and highest value an input may have.
    levels: 255 for inputs stored in 8 bits: only 256 values that fill the domain can reach the model, such as multiples
    of 1/255. None: any number can.
    scale: a factor on the radius for every row [B] (None: 1), so that searches can give each row a radius of its own.
    fine: inputs are of float64, so that membership forgives only its rounding (see `withstand.core.tolerance`).

    Some threats are sets of *moves*, such as flow fields, from which `render` makes inputs: where this class speaks of
    points x, theirs are moves. For all others a point is the input itself.
    """

    radius: float
    domain: tuple[float, float] = (0.0, 1.0)
    levels: int | None = None
    scale: Tensor | None = field(default=None, compare=False)
    fine: bool = field(default=False, kw_only=True, compare=False)

    norm = ""
    anchored = True
    """Whether x0 is itself the sample in question, so that a property violated at x0 makes the question invalid."""

    provable = True
    """Whether `box` and `lowest` enclose the threat, so that bounds over it are proofs."""

    def __str__(self) -> str:
        return self.text("{:.6g}".format)

    def text(self, number: Callable[[float], str] = repr) -> str:
        """The threat as the user writes it, its numbers in the form told; with `repr` it reads back exactly."""
        text = f"{self.norm}:{self._amount(number)}"
        if self.domain != (0.0, 1.0):
            text += f"[{number(self.domain[0])},{number(self.domain[1])}]"
        return text + ("@u8" if self.levels == 255 else "")

    def _amount(self, number: Callable[[float], str]) -> str:
        return number(self.radius)

    def at(self, radius: float | Tensor) -> "Threat":
        """The same threat with another radius, or with one for every row [B]."""
        if isinstance(radius, Tensor):
            return replace(self, radius=1.0, scale=radius)
        return replace(self, radius=radius, scale=None)

    def pick(self, rows: Tensor, x0: Tensor) -> "Threat":
        """The threat of rows [K] of the batch x0 [B, *shape]: itself, unless something was given row by row."""
        return self if self.scale is None else replace(self, scale=self.scale[rows])

    def radii(self, like: Tensor) -> Tensor:
        """The radius of every row, shaped to broadcast against `like` [B, ...], of its type."""
        if self.scale is None:
            return like.new_full((1,) * like.dim(), self.radius)
        return rowwise(self.scale.to(like) * self.radius, like)

    def rounded(self, radii: Tensor) -> Tensor:
        """Radii to the least ones of the same threats: threats that count pixels know only some."""
        return radii

    def widest(self, x0: Tensor) -> float | None:
        """The radius at which the threat is the whole domain for inputs such as x0 [B, *shape]; None: there is none."""
        return None

    def oversize(self, x0: Tensor) -> str | None:
        """Why the radius is beyond all that can be done to inputs such as x0 [B, *shape]; None where it is not."""
        widest = self.widest(x0)
        if widest is None or math.isinf(self.radius) or self.radius <= widest * (1 + 1e-6):
            return None
        low, high = self.domain
        return (
            f"a radius of {widest:.4g} is already the whole domain [{low:g}, {high:g}]; "
            "give a smaller one, or the domain that the data is in"
        )

    @property
    def reach(self) -> float:
        """The radius that membership and proofs use (see `withstand.core.tolerance`), where all rows have one."""
        return reach(self.radius, self.domain, self.fine)

    def reaches(self, like: Tensor) -> Tensor:
        """`reach` of every row, shaped to broadcast against `like` [B, ...], of its type."""
        return reach(self.radii(like.double()), self.domain, self.fine).to(like.dtype)

    def start(self, x0: Tensor) -> Tensor:
        """The point of no change: x0 itself, or for moves the one that does nothing."""
        return x0

    def render(self, x0: Tensor, x: Tensor) -> Tensor:
        """The model's input at a point, differentiable in the point."""
        return x

    @property
    def rendered(self) -> bool:
        """Whether points are moves, from which inputs are made."""
        return type(self).render is not Threat.render

    @property
    def limits(self) -> tuple[float, ...]:
        """Numbers beside the radius that membership needs, for threats that have some; witnesses store them."""
        return ()

    @property
    def grain(self) -> float:
        """The distance of two values that a quantised input can have, 0 where it can have any."""
        return 1 / grid(self.domain, self.levels)[1] if self.levels else 0.0

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

    def lowest_in_windows(self, x0: Tensor, rows: Tensor) -> Tensor:
        """`lowest` of rows [N, R, height, width, channels] over windows x0 [N, height, width, channels] of images: what
        a threat to whole images leaves free there."""
        return self.lowest(flattened(x0), flattened(rows, 2))

    def contains(self, x0: Tensor, x: Tensor) -> Tensor:
        """Whether each row of x lies in the threat (and, if quantised, on its grid): bool [B]."""
        low, high = self.domain
        flat = flattened(x)
        distance = self.distance(x0, x)
        inside = (distance <= self.reaches(distance)) & ((flat >= low) & (flat <= high)).all(1)
        if self.levels is not None:
            first, per_unit = grid(self.domain, self.levels)
            scaled = (flat.double() - first) * per_unit
            inside &= ((scaled - scaled.round()).abs() <= GRID).all(1)
        return inside

    def box(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of every coordinate over the threat."""
        low, high = self.domain
        around = self.reaches(x0)
        return (x0 - around).clamp(low, high), (x0 + around).clamp(low, high)

    def deploy(self, x0: Tensor, x: Tensor) -> Tensor:
        """The input at x as it would reach the deployed model: rounded to the grid towards x0 if it is quantised."""
        x = self.render(x0, x)
        if self.levels is None:
            return x
        first, per_unit = grid(self.domain, self.levels)
        start = ((x0 - first) * per_unit).round()
        steps = ((x - first) * per_unit - start + torch.sign(x - x0) * 1e-3).trunc()
        return self._clamp(first + (start + steps) / per_unit)

    def _clamp(self, x: Tensor) -> Tensor:
        return x.clamp(*self.domain)

    def bar(self, grad: Tensor, x: Tensor | None) -> Tensor:
        """`grad` with zeros where a step against it would leave the domain at once."""
        if x is None:
            return grad
        stuck = ((x <= self.domain[0]) & (grad > 0)) | ((x >= self.domain[1]) & (grad < 0))
        return grad.masked_fill(stuck, 0.0)
