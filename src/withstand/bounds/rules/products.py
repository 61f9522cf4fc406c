"""Products and quotients: affine with a constant factor, McCormick's planes with two activations."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.affine import unbroadcast
from withstand.bounds.patterns import MatrixProduct
from withstand.bounds.planes import Planes, pointwise
from withstand.bounds.rule import Affine, Box, Elementwise, Nonlinear, add_rule, rules


def _product_box(a: Box, b: Box) -> Box:
    corners = torch.stack([(x * y).nan_to_num(0.0, torch.inf, -torch.inf) for x in a for y in b])
    return corners.amin(0), corners.amax(0)


def _mccormick(a: Box, b: Box) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The two planes below and the two above a product (McCormick 1976): coefficients of a and b, and a constant."""
    (al, au), (bl, bu) = a, b
    return [[bl, al, -al * bl], [bu, au, -au * bu]], [[bu, al, -al * bu], [bl, au, -au * bl]]


def _flat(first: Tensor, last: Tensor) -> Tensor:
    """The share of `last` at which the way from the slope `first` to `last` is nearest to zero."""
    return (first / (first - last)).nan_to_num(0.5).clamp(0, 1)


def _between(first: list[Tensor], last: list[Tensor]) -> list[Tensor]:
    """The plane between two that bounds the product over the box as well as its corners do: with slopes as near to zero
    as they come. In the middle of the box all planes between McCormick's two are equally near to the product."""
    share = (_flat(first[0], last[0]) + _flat(first[1], last[1])) / 2
    return [p + share * (q - p) for p, q in zip(first, last, strict=True)]


def _product(a: Box, b: Box) -> Planes:
    below, above = _mccormick(a, b)
    return pointwise((a, b), _between(*below), _between(*above))


def _mul(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return unbroadcast(rows * args[1 - position], args[position])


def _mul_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return x * args[1 - position]


add_rule(Nonlinear("mul", _product_box, _product, affine=Affine("mul", _mul, _mul_forward)))


def _inverse() -> Elementwise:
    rule = rules()["reciprocal"]
    assert isinstance(rule, Elementwise)
    return rule


def _quotient_box(a: Box, b: Box) -> Box:
    return _product_box(a, relax.image(_inverse(), *b, {}))


def _quotient(a: Box, b: Box) -> Planes:
    """The planes of the product with the reciprocal, then the reciprocal's lines: those nearest in the middle."""
    line = relax.lines(_inverse(), b, {})
    below, above = _mccormick(a, relax.image(_inverse(), *b, {}))
    tilts, offsets = (line.lower_slope, line.upper_slope), (line.lower_offset, line.upper_offset)
    middle = [box[0] / 2 + box[1] / 2 for box in (a, b)]
    chosen = []
    for planes, sign in ((below, 1), (above, -1)):
        first, last = (_substituted(plane, tilts[::sign], offsets[::sign]) for plane in planes)
        a_gain, b_gain, gain = (p - q for p, q in zip(first, last, strict=True))
        better = sign * (a_gain * middle[0] + b_gain * middle[1] + gain) >= 0
        chosen.append([torch.where(better, p, q) for p, q in zip(first, last, strict=True)])
    return pointwise((a, b), *chosen)


def _substituted(plane: list[Tensor], tilts: Sequence[Tensor], offsets: Sequence[Tensor]) -> list[Tensor]:
    """A plane of a and 1 / b as one of a and b: by the first line of 1 / b where its coefficient is positive."""
    rises = plane[1] >= 0
    tilt, offset = torch.where(rises, *tilts), torch.where(rises, *offsets)
    return [plane[0], plane[1] * tilt, plane[2] + plane[1] * offset]


def _div(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return unbroadcast(rows / args[1], args[0])


def _div_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return x / args[1]


add_rule(Nonlinear("div", _quotient_box, _quotient, affine=Affine("div", _div, _div_forward, positions=(0,))))


def _matmul_box(a: Box, b: Box) -> Box:
    """By signs (exact where a factor keeps its sign) and by centre and radius (Rump 1999), whichever is tighter."""
    pos_a, neg_a = [t.clamp(min=0) for t in a], [t.clamp(max=0) for t in a]
    pos_b, neg_b = [t.clamp(min=0) for t in b], [t.clamp(max=0) for t in b]
    low = pos_a[0] @ pos_b[0] + pos_a[1] @ neg_b[0] + neg_a[0] @ pos_b[1] + neg_a[1] @ neg_b[1]
    high = pos_a[1] @ pos_b[1] + pos_a[0] @ neg_b[1] + neg_a[1] @ pos_b[0] + neg_a[0] @ neg_b[0]
    (ca, ra), (cb, rb) = ((t[0] / 2 + t[1] / 2, t[1] / 2 - t[0] / 2) for t in (a, b))
    centre, radius = ca @ cb, ca.abs() @ rb + ra @ cb.abs() + ra @ rb
    low = torch.maximum(*(t.nan_to_num(-torch.inf, torch.inf, -torch.inf) for t in (low, centre - radius)))
    high = torch.minimum(*(t.nan_to_num(torch.inf, torch.inf, -torch.inf) for t in (high, centre + radius)))
    return low, high


def _matrix_product(a: Box, b: Box) -> Planes:
    """The sum of the planes of the products of two elements each."""
    left = (a[0].unsqueeze(-2), a[1].unsqueeze(-2))
    right = (b[0].mT.unsqueeze(-3), b[1].mT.unsqueeze(-3))
    parts = _product(left, right)
    pattern = MatrixProduct((a[0].shape[1:], b[0].shape[1:]))
    return Planes(pattern, parts.lower, parts.low.sum(-1), parts.upper, parts.high.sum(-1))


def _matmul(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    """The transpose of x @ weight (position 0) or weight @ x (position 1)."""
    weight = args[1 - position]
    if weight.dim() == 1:
        weight = weight[:, None] if position == 0 else weight[None]
        rows = rows.unsqueeze(-1 if position == 0 else -2)
    return unbroadcast(rows @ weight.mT if position == 0 else weight.mT @ rows, args[position])


def _matmul_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return x @ args[1] if position == 0 else args[0] @ x


add_rule(Nonlinear("matmul", _matmul_box, _matrix_product, affine=Affine("matmul", _matmul, _matmul_forward)))
