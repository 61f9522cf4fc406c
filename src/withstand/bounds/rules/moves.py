"""Maps that move, repeat and sum elements: a box is mapped end by end. Most are one line: their transpose comes from
automatic differentiation."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from withstand.bounds.affine import unbroadcast
from withstand.bounds.rule import Affine, add_rule


def _reshape(rows: Tensor, position: int, args: Sequence[Any], **attrs: Any) -> Tensor:
    return rows.reshape(len(rows), *args[0])


def _transpose(rows: Tensor, position: int, args: Sequence[Any], *, perm: tuple[int, ...]) -> Tensor:
    return rows.permute([perm.index(axis) for axis in range(len(perm))])


def _add(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return unbroadcast(rows, args[position])


def _sub(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    back = unbroadcast(rows, args[position])
    return -back if position else back


def _neg(rows: Tensor, position: int, args: Sequence[Any]) -> Tensor:
    return -rows


def _pad(x: Tensor, position: int, args: Sequence[Any], *, pads: tuple[int, ...], mode: str = "constant", **_: float):
    return F.pad(x, pads, mode)


add_rule(Affine("reshape", _reshape))
add_rule(Affine("transpose", _transpose))
add_rule(Affine("add", _add, joint=True))
add_rule(Affine("sub", _sub, joint=True, falling=(1,)))
add_rule(Affine("neg", _neg, falling=(0,)))
add_rule(Affine("where", positions=(1, 2), joint=True))
add_rule(Affine("concat", joint=True))
add_rule(Affine("slice"))
add_rule(Affine("gather", positions=(0,)))
add_rule(Affine("pad", forward=_pad))
add_rule(Affine("expand"))
add_rule(Affine("mean"))
add_rule(Affine("sum"))
add_rule(Affine("avg_pool"))
