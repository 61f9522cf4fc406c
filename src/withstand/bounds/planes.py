"""Planes below and above a map of several values, and rows of coefficients through them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds.patterns import Coefficients, Pattern, Pointwise
from withstand.bounds.rule import Box
from withstand.core.shapes import flattened
from withstand.core.threat import products


def dot(rows: Tensor, constant: Tensor) -> Tensor:
    """rows [B, R, *shape] times constants [B or 1, *shape], summed: [B, R]. Zero times infinity is zero."""
    flat, column = flattened(rows, 2), flattened(constant)
    column = column.expand(len(flat), -1)
    product = products(flat, column)
    if bool(product.isnan().any()):
        product = torch.where(flat == 0, 0.0, flat * column[:, None]).sum(2)
    return product


@dataclass(frozen=True)
class Planes:
    """lower . inputs + low <= f(inputs) <= upper . inputs + high: finite coefficients in the layout of `pattern`, and
    constants [B, *out], which are infinite where there is no plane."""

    pattern: Pattern
    lower: Coefficients
    low: Tensor
    upper: Coefficients
    high: Tensor

    def back(self, rows: Tensor) -> tuple[list[Tensor], Tensor]:
        """rows [B, R, *out] to rows of each input and a constant [B, R], whose sum is below rows . f."""
        below, above = rows.clamp(min=0), rows.clamp(max=0)
        backs = [
            self.pattern.transpose(self.lower, i, below) + self.pattern.transpose(self.upper, i, above)
            for i in range(len(self.lower))
        ]
        return backs, dot(below, self.low) + dot(above, self.high)


def pointwise(boxes: Sequence[Box], lower: Sequence[Tensor], upper: Sequence[Tensor]) -> Planes:
    """Planes of an element-wise map of several inputs: `lower` and `upper` hold a coefficient for each, and last the
    constant. A plane that overflows becomes no plane."""
    below, above = _finite(lower, -torch.inf), _finite(upper, torch.inf)
    pattern = Pointwise(tuple(low.shape[1:] for low, _ in boxes))
    return Planes(pattern, tuple(below[:-1]), below[-1], tuple(above[:-1]), above[-1])


def _finite(plane: Sequence[Tensor], without: float) -> list[Tensor]:
    """A plane with the constant `without` in place of one that overflows."""
    parts = torch.broadcast_tensors(*plane)
    bad = ~torch.stack(parts).isfinite().all(0)
    return [*(p.masked_fill(bad, 0.0) for p in parts[:-1]), parts[-1].masked_fill(bad, without)]


def no_news(bound: Tensor) -> Tensor:
    """Lower bounds with minus infinity in place of NaN, which infinite boxes can leave, and of infinity, which no value
    of a network is: numbers were too large for their type."""
    return torch.where(bound < torch.inf, bound, -torch.inf)
