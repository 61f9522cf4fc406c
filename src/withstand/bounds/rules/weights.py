"""Affine maps with weights, each with its transpose: convolutions stay convolutions."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from withstand.bounds.rule import Affine, add_rule
from withstand.graph import ops


def _linear(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return rows @ args[1]


def _linear_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return F.linear(x, args[1])


add_rule(Affine("linear", forward=_linear_forward, transpose=_linear, positions=(0,)))


def _conv(rows: Tensor, position: int, args: Sequence[Any], **attrs: Any) -> Tensor:
    """A transposed convolution, with the rest that the stride leaves over as its output padding."""
    shape, weight = args[0], args[1]
    stride, padding, dilation = attrs["stride"], attrs["padding"], attrs["dilation"]
    axes = zip(shape[1:], padding, dilation, weight.shape[2:], rows.shape[2:], stride, strict=True)
    if weight.dim() == 4 and weight.shape[1] <= 4 and attrs.get("groups", 1) == 1:
        columns = weight.flatten(1).T @ rows.flatten(2)  # faster than a transposed convolution into few channels
        return F.fold(columns, shape[1:], weight.shape[2:], dilation, padding, stride)
    rest = tuple(n + 2 * p - d * (k - 1) - 1 - (m - 1) * s for n, p, d, k, m, s in axes)
    return ops.conv_transpose(rows, weight, None, output_padding=rest, **attrs)


def _conv_forward(x: Tensor, position: int, args: Sequence[Any], **attrs: Any) -> Tensor:
    return ops.conv(x, args[1], None, **attrs)


add_rule(Affine("conv", _conv, _conv_forward, positions=(0,)))


def _conv_transpose(rows: Tensor, position: int, args: Sequence[Any], **attrs: Any) -> Tensor:
    """A convolution, cut to the input's size."""
    kept = {name: attrs[name] for name in ("stride", "padding", "dilation", "groups") if name in attrs}
    back = ops.conv(rows, args[1], None, **kept)
    for axis, size in enumerate(args[0][1:], start=2):
        back = back.narrow(axis, 0, size)
    return back


def _conv_transpose_forward(x: Tensor, position: int, args: Sequence[Any], **attrs: Any) -> Tensor:
    return ops.conv_transpose(x, args[1], None, **attrs)


add_rule(Affine("conv_transpose", _conv_transpose, _conv_transpose_forward, positions=(0,)))
