"""The shortest way onto a hyperplane inside a box of values, for many rows at once."""

import torch
from torch import Tensor

from withstand.core.shapes import flattened

ROUNDS = 60
"""Rounds of the active set at most; a handful do, and each that is not the last meets a further coordinate."""

FAINT = 1e-12
"""Slopes below this share of the largest are taken for zero: they could only add rounding errors."""


def onto(norm: str, x: Tensor, grad: Tensor, fall: Tensor, domain: tuple[float, float]) -> Tensor:
    """The shortest move d of every row of x [B, *shape], in the domain, such that grad . d = -fall [B].

    So x + d lies on the hyperplane where a linear function of slope `grad` is lower by `fall` (higher, where that is
    negative). Where the domain does not reach the hyperplane, d goes as near to it as the domain lets it. norm: the
    length that is least: linf, l2 or l1.
    """
    low, high = domain
    flat, start, fall = flattened(grad), flattened(x), fall[:, None].to(x.dtype).nan_to_num(0.0, 0.0, 0.0)
    size, tiny = flat.abs(), torch.finfo(x.dtype).tiny
    largest = size.amax(1, keepdim=True).clamp(min=tiny)
    size, need = size / largest, fall.abs() / largest
    size = size.masked_fill(size <= FAINT, 0.0)
    down = flat * fall.sign() > 0
    room = torch.where(down, start - low, high - start).clamp(min=0)
    room = torch.minimum(room, need / size.clamp(min=tiny)).masked_fill(size == 0, 0.0)
    moved = _greedy(size, room, need) if norm == "l1" else _level(size, room, need, 1.0 if norm == "linf" else size)
    return torch.where(down, -moved, moved).reshape(x.shape)


def _level(size: Tensor, room: Tensor, need: Tensor, shape: Tensor | float) -> Tensor:
    """min(t shape, room) with the t where sum size min(t shape, room) = need: Newton's method on that sum, which is
    concave and piecewise linear in t, so that it comes from below and ends at the very t."""
    tiny = torch.finfo(size.dtype).tiny
    slope, gain = size * shape, size * room
    t = (need / slope.sum(1, keepdim=True).clamp(min=tiny)).clamp(max=torch.finfo(size.dtype).max)
    full = t * shape >= room
    for _ in range(ROUNDS):
        left = slope.masked_fill(full, 0.0).sum(1, keepdim=True)
        rest = need - gain.masked_fill(~full, 0.0).sum(1, keepdim=True)
        t = torch.where(left > 0, torch.maximum(t, rest / left.clamp(min=tiny)), t)
        before, full = full, full | (t * shape >= room)
        if torch.equal(before, full):
            break
    return torch.minimum(t * shape, room)


def _greedy(size: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """The coordinates that count most take all their room, in turn, until the need is met."""
    sizes, order = size.sort(dim=1, descending=True, stable=True)
    gains = sizes * room.gather(1, order)
    spent = (need - gains.cumsum(1) + gains).clamp(min=0).minimum(gains)
    taken = spent / sizes.clamp(min=torch.finfo(size.dtype).tiny)
    return torch.zeros_like(size).scatter_(1, order, taken)
