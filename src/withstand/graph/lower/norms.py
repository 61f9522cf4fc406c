"""Normalisation layers as the network computes them when it is used, in plain arithmetic."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.lower.arith import binary, power, unary
from withstand.graph.lower.moves import reshape
from withstand.graph.lower.pools import reduce


def batch_norm(b: Builder, x: Array, scale: Array, bias: Array, mean: Array, var: Array, eps: float) -> Array:
    """Batch normalisation with stored statistics: one multiplication and one addition a channel."""
    if any(isinstance(p, Value) for p in (scale, bias, mean, var)):
        raise Unsupported("normalises with statistics that depend on the input")
    wide = [p.double() for p in (scale, bias, mean, var) if isinstance(p, Tensor)]
    factor = wide[0] / torch.sqrt(wide[3] + eps)
    offset = wide[1] - wide[2] * factor
    per_channel = (-1, *(1,) * (len(x.shape) - 2))
    scaled = binary(b, "mul", x, factor.reshape(per_channel))
    return binary(b, "add", scaled, offset.reshape(per_channel))


def standardise(b: Builder, x: Array, axes: Sequence[int], eps: float, *, centre: bool = True) -> Array:
    """x minus its mean over axes, divided by its standard deviation (root mean square when not centred)."""
    if centre:
        x = binary(b, "sub", x, reduce(b, "mean", x, axes, True))
    square = reduce(b, "mean", power(b, x, number(2.0)), axes, True)
    deviation = unary(b, "sqrt", binary(b, "add", square, number(eps)))
    return binary(b, "div", x, deviation)


def affine(b: Builder, x: Array, scale: Array | None, bias: Array | None) -> Array:
    """x times an optional scale plus an optional bias."""
    x = x if scale is None else binary(b, "mul", x, scale)
    return x if bias is None else binary(b, "add", x, bias)


def group_norm(b: Builder, x: Array, groups: int, scale: Array | None, bias: Array | None, eps: float) -> Array:
    """Group normalisation; scale and bias hold one number a channel (or a group)."""
    shape = x.shape
    count = math.prod(shape[1:]) // groups
    y = standardise(b, reshape(b, x, (shape[0], groups, count)), (2,), eps)
    wide = [None if p is None else _per_channel(b, p, shape) for p in (scale, bias)]
    return affine(b, reshape(b, y, shape), *wide)


def _per_channel(b: Builder, p: Array, shape: Sequence[int]) -> Array:
    if isinstance(p, Tensor) and p.numel() != shape[1]:
        p = p.reshape(-1).repeat_interleave(shape[1] // p.numel())
    return reshape(b, p, (shape[1], *(1,) * (len(shape) - 2)))
