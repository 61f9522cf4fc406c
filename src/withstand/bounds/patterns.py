"""Which elements of its inputs each element of a map depends on: how coefficients of planes are laid out and applied.

Values are [B, G, *shape], G of them a sample; coefficients have a batch axis and no G. A constant input has B = 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds.affine import unbroadcast

Coefficients = tuple[Tensor, ...]
"""One tensor for each input."""


def fold(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """rows [B, R, *out] summed over the axes along which an input of `shape` was repeated: [B, R, *shape]."""
    if rows.shape[2:] == tuple(shape):
        return rows
    return unbroadcast(rows.flatten(0, 1), shape).reshape(*rows.shape[:2], *shape)


class Pattern(ABC):
    """A layout of coefficients. Both methods are linear in the coefficients."""

    @abstractmethod
    def forward(self, coefficients: Coefficients, position: int, value: Tensor) -> Tensor:
        """The part of the output [B, G, *out] that comes from the input at `position` with values [B, G, *in]."""

    @abstractmethod
    def transpose(self, coefficients: Coefficients, position: int, rows: Tensor) -> Tensor:
        """rows [B, R, *out] times the coefficients of the input at `position`: [B, R, *in]."""


@dataclass(frozen=True)
class Pointwise(Pattern):
    """Every element on the elements at its own place, with broadcasting: coefficients [B, *out]."""

    shapes: tuple[torch.Size, ...]

    def forward(self, coefficients: Coefficients, position: int, value: Tensor) -> Tensor:
        return coefficients[position][:, None] * value

    def transpose(self, coefficients: Coefficients, position: int, rows: Tensor) -> Tensor:
        return fold(coefficients[position][:, None] * rows, self.shapes[position])


@dataclass(frozen=True)
class Windows(Pattern):
    """Every element of a map on the elements of a window of the same channel: coefficients [B, C, windows, taps].

    index: flat places [windows, taps] in the input's maps of `shape` (C, *spatial); `out` is the output's shape.
    """

    index: Tensor
    shape: torch.Size
    out: torch.Size

    def forward(self, coefficients: Coefficients, position: int, value: Tensor) -> Tensor:
        taken = value.flatten(3)[:, :, :, self.index]
        return (coefficients[0][:, None] * taken).sum(4).reshape(*value.shape[:2], *self.out)

    def transpose(self, coefficients: Coefficients, position: int, rows: Tensor) -> Tensor:
        parts = rows.flatten(3)[..., None] * coefficients[0][:, None]
        back = rows.new_zeros(*rows.shape[:3], self.shape[1:].numel())
        back.scatter_add_(3, self.index.flatten().expand(*parts.shape[:3], -1), parts.flatten(3))
        return back.reshape(*rows.shape[:2], *self.shape)


@dataclass(frozen=True)
class Along(Pattern):
    """Every element on all elements of its line along the axis `dim`: coefficients [B, *others, output, input]."""

    dim: int

    def forward(self, coefficients: Coefficients, position: int, value: Tensor) -> Tensor:
        lines = value.movedim(self.dim + 1, -1)[..., None]
        return (coefficients[0][:, None] @ lines).squeeze(-1).movedim(-1, self.dim + 1)

    def transpose(self, coefficients: Coefficients, position: int, rows: Tensor) -> Tensor:
        lines = rows.movedim(self.dim + 1, -1)[..., None, :]
        return (lines @ coefficients[0][:, None]).squeeze(-2).movedim(-1, self.dim + 1)


@dataclass(frozen=True)
class MatrixProduct(Pattern):
    """a @ b [..., I, J] on the elements that are multiplied: coefficients [B, ..., I, J, K] for both inputs."""

    shapes: tuple[torch.Size, torch.Size]

    def forward(self, coefficients: Coefficients, position: int, value: Tensor) -> Tensor:
        factor = "kj" if position else "ik"
        return torch.einsum(f"b...ijk,bg...{factor}->bg...ij", coefficients[position], value)

    def transpose(self, coefficients: Coefficients, position: int, rows: Tensor) -> Tensor:
        factor = "kj" if position else "ik"
        back = torch.einsum(f"b...ijk,br...ij->br...{factor}", coefficients[position], rows)
        return fold(back, self.shapes[position])
