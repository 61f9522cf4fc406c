"""Products and quotients: affine with a constant factor, McCormick's planes with two activations."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.affine import unbroadcast
from withstand.bounds.planes import by_planes, finite, fold
from withstand.bounds.rule import Affine, Box, Elementwise, Nonlinear, add_rule, rules


def _product_box(a: Box, b: Box) -> Box:
    corners = torch.stack([(x * y).nan_to_num(0.0, torch.inf, -torch.inf) for x in a for y in b])
    return corners.amin(0), corners.amax(0)


def _planes(a: Box, b: Box) -> tuple[list[Tensor], list[Tensor]]:
    """McCormick 1976: of the two planes below (and above) a product, the one that is tighter in the middle."""
    (al, au), (bl, bu) = a, b
    am, bm = al / 2 + au / 2, bl / 2 + bu / 2
    first = bl * am + al * bm - al * bl >= bu * am + au * bm - au * bu
    lower = [torch.where(first, bl, bu), torch.where(first, al, au), -torch.where(first, al * bl, au * bu)]
    first = bu * am + al * bm - al * bu <= bl * am + au * bm - au * bl
    upper = [torch.where(first, bu, bl), torch.where(first, al, au), -torch.where(first, al * bu, au * bl)]
    return finite(lower, -torch.inf), finite(upper, torch.inf)


def _product_backward(rows: Tensor, boxes: Sequence[Box]) -> tuple[list[Tensor], Tensor]:
    return by_planes(rows, boxes, *_planes(*boxes))


def _mul(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return unbroadcast(rows * args[1 - position], args[position])


def _mul_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return x * args[1 - position]


add_rule(Nonlinear("mul", _product_box, _product_backward, Affine("mul", _mul, _mul_forward)))


def _inverse() -> Elementwise:
    rule = rules()["reciprocal"]
    assert isinstance(rule, Elementwise)
    return rule


def _quotient_box(a: Box, b: Box) -> Box:
    return _product_box(a, relax.image(_inverse(), *b, {}))


def _quotient_backward(rows: Tensor, boxes: Sequence[Box]) -> tuple[list[Tensor], Tensor]:
    """The product with the reciprocal, then the reciprocal's lines."""
    inverse = relax.image(_inverse(), *boxes[1], {})
    (over, under), constant = _product_backward(rows, [boxes[0], inverse])
    line = relax.lines(_inverse(), boxes[1], {})
    (under,), more = by_planes(under, [boxes[1]], line[:2], line[2:])
    return [over, under], constant + more


def _div(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return unbroadcast(rows / args[1], args[0])


def _div_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return x / args[1]


add_rule(Nonlinear("div", _quotient_box, _quotient_backward, Affine("div", _div, _div_forward, positions=(0,))))


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


def _matmul_backward(rows: Tensor, boxes: Sequence[Box]) -> tuple[list[Tensor], Tensor]:
    """McCormick's planes of every product a_ik * b_kj around (lower a, either end of b), summed over k."""
    al, bl, bu = (t[:, None] for t in (boxes[0][0], *boxes[1]))
    below, above = rows.clamp(min=0), rows.clamp(max=0)
    to_a = below @ bl.mT + above @ bu.mT
    to_b = al.mT @ rows
    constant = -(below * (al @ bl)).flatten(2).sum(2) - (above * (al @ bu)).flatten(2).sum(2)
    bad = ~(constant.isfinite() & to_a.flatten(2).isfinite().all(2) & to_b.flatten(2).isfinite().all(2))
    to_a, to_b = fold(to_a, boxes[0][0].shape[1:]), fold(to_b, boxes[1][0].shape[1:])
    mask = bad.reshape(*bad.shape, *(1,) * (to_a.dim() - 2))
    to_b_mask = bad.reshape(*bad.shape, *(1,) * (to_b.dim() - 2))
    return [to_a.masked_fill(mask, 0.0), to_b.masked_fill(to_b_mask, 0.0)], constant.masked_fill(bad, -torch.inf)


def _matmul(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    """The transpose of x @ weight (position 0) or weight @ x (position 1)."""
    weight = args[1 - position]
    if weight.dim() == 1:
        weight = weight[:, None] if position == 0 else weight[None]
        rows = rows.unsqueeze(-1 if position == 0 else -2)
    return unbroadcast(rows @ weight.mT if position == 0 else weight.mT @ rows, args[position])


def _matmul_forward(x: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return x @ args[1] if position == 0 else args[0] @ x


add_rule(Nonlinear("matmul", _matmul_box, _matmul_backward, Affine("matmul", _matmul, _matmul_forward)))
