"""Rows of coefficients through planes that bound a map, and their products with constants."""

from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.bounds.affine import unbroadcast
from withstand.bounds.rule import Box


def dot(rows: Tensor, constant: Tensor) -> Tensor:
    """rows [B, R, *shape] times constants [B or 1, *shape], summed: [B, R]. Zero times infinity is zero."""
    flat, column = rows.flatten(2), constant.flatten(1)
    column = column.expand(len(flat), -1)
    product = torch.bmm(flat, column[:, :, None]).squeeze(2)
    if bool(product.isnan().any()):
        product = torch.where(flat == 0, 0.0, flat * column[:, None]).sum(2)
    return product


def fold(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """rows [B, R, *out] summed over the axes along which an input of `shape` was repeated: [B, R, *shape]."""
    if rows.shape[2:] == tuple(shape):
        return rows
    return unbroadcast(rows.flatten(0, 1), shape).reshape(*rows.shape[:2], *shape)


def by_planes(
    rows: Tensor, boxes: Sequence[Box], lower: Sequence[Tensor], upper: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Rows through planes of an element-wise map of several inputs.

    `lower` and `upper` hold a finite coefficient [B, *out] for each input, and last the constant.
    """
    below, above = rows.clamp(min=0), rows.clamp(max=0)
    back = [
        fold(below * low[:, None] + above * high[:, None], box[0].shape[1:])
        for box, low, high in zip(boxes, lower[:-1], upper[:-1], strict=True)
    ]
    return back, dot(below, lower[-1]) + dot(above, upper[-1])


def finite(plane: Sequence[Tensor], without: float) -> list[Tensor]:
    """A plane with the constant `without` in place of one that overflows."""
    parts = torch.broadcast_tensors(*plane)
    bad = ~torch.stack(parts).isfinite().all(0)
    return [*(p.masked_fill(bad, 0.0) for p in parts[:-1]), parts[-1].masked_fill(bad, without)]


def no_news(bound: Tensor) -> Tensor:
    """Lower bounds with minus infinity in place of NaN, which infinite boxes can leave."""
    return torch.where(bound.isnan(), -torch.inf, bound)
