"""Maximum and minimum of two values, and max pooling."""

from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from withstand.bounds.patterns import Windows
from withstand.bounds.planes import Planes, pointwise
from withstand.bounds.rule import Box, Nonlinear, add_rule
from withstand.graph import ops


def _max_box(a: Box, b: Box) -> Box:
    return torch.maximum(a[0], b[0]), torch.maximum(a[1], b[1])


def _min_box(a: Box, b: Box) -> Box:
    return torch.minimum(a[0], b[0]), torch.minimum(a[1], b[1])


def _max_planes(a: Box, b: Box) -> tuple[list[Tensor], list[Tensor]]:
    """max(a, b) = b + relu(a - b): above by the chord of the ReLU, below by the input that is larger in the middle."""
    (al, au), (bl, bu) = a, b
    least, most = (al - bu).clamp(max=0), (au - bl).clamp(min=0)
    share = most / (most - least).clamp(min=torch.finfo(al.dtype).tiny)
    chord = [share, 1 - share, -share * least]
    decided = (least == 0) | (most == 0)
    first = (least == 0).to(al.dtype)
    exact = [first, 1 - first, torch.zeros_like(first)]
    upper = [torch.where(decided, e, c) for e, c in zip(exact, chord, strict=True)]
    pick = (al / 2 + au / 2 >= bl / 2 + bu / 2).to(al.dtype)
    return [pick, 1 - pick, torch.zeros_like(pick)], upper


def _max(a: Box, b: Box) -> Planes:
    return pointwise((a, b), *_max_planes(a, b))


def _min(a: Box, b: Box) -> Planes:
    """min(a, b) = -max(-a, -b)."""
    lower, upper = _max_planes((-a[1], -a[0]), (-b[1], -b[0]))
    return pointwise((a, b), [*upper[:-1], -upper[-1]], [*lower[:-1], -lower[-1]])


add_rule(Nonlinear("max", _max_box, _max))
add_rule(Nonlinear("min", _min_box, _min))


def _pool_box(box: Box, **attrs: Any) -> Box:
    return ops.max_pool(box[0], **attrs), ops.max_pool(box[1], **attrs)


@lru_cache(maxsize=64)
def _windows(size: tuple[int, ...], out: tuple[int, ...], kernel, stride, padding, dilation) -> Tensor:
    """Flat input positions of every window: [prod(out), prod(kernel)], -1 for padding."""
    flat = torch.zeros([1] * (2 * len(size)), dtype=torch.long)
    valid = torch.ones_like(flat, dtype=torch.bool)
    for axis, n in enumerate(size):
        place = torch.arange(out[axis])[:, None] * stride[axis] - padding[axis]
        place = place + torch.arange(kernel[axis]) * dilation[axis]
        shape = [1] * (2 * len(size))
        shape[axis], shape[len(size) + axis] = place.shape
        place = place.reshape(shape)
        valid = valid & (place >= 0) & (place < n)
        flat = flat * n + place
    return torch.where(valid, flat, -1).reshape(prod(out), prod(kernel))


def _pool(box: Box, **attrs: Any) -> Planes:
    """Below by the input of the largest lower bound, among equals of the least upper bound: behind ReLUs, whose lower
    lines are loose themselves, this is tighter than the input of the largest middle. Above by `_above`."""
    low, high = box
    size, out = low.shape[2:], ops.max_pool(low[:1], **attrs).shape[1:]
    kept = tuple(attrs[name] for name in ("kernel", "stride", "padding", "dilation"))
    index = _windows(tuple(size), tuple(out[1:]), *kept).to(low.device)
    inside, outside = index.clamp(min=0), index < 0
    lows = low.flatten(2)[:, :, inside].masked_fill(outside, -torch.inf)
    highs = high.flatten(2)[:, :, inside].masked_fill(outside, -torch.inf)
    best = torch.where(lows == lows.amax(3, keepdim=True), -highs, -torch.inf).argmax(3, keepdim=True)
    one = torch.zeros_like(lows).scatter_(3, best, 1.0)
    slopes, constant = _above(lows, highs)
    shape = (len(low), *out)
    pattern = Windows(inside, low.shape[1:], out)
    return Planes(pattern, (one,), low.new_zeros(shape), (slopes,), constant.reshape(shape))


def _above(lows: Tensor, highs: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [..., taps] and constant [...] of the plane above the maximum of values in a box [..., taps] that is
    nearest to it in the middle of the box.

    d + sum of c_i (x_i - low_i) with c_i = max(high_i - d, 0) / (high_i - low_i) is above the maximum at all corners
    where d is at least every low_i, and nearest when besides at most two high_i exceed d. The freedom left in d makes
    the c_i add up to 1 where it can, because neighbours tend to move together.
    """
    widths = (highs - lows).nan_to_num(0.0)
    top, place = highs.topk(min(3, highs.shape[-1]), -1)
    least = torch.maximum(lows.amax(-1), top[..., 2]) if top.shape[-1] > 2 else lows.amax(-1)
    start = least
    if top.shape[-1] > 1:
        first, second = widths.gather(-1, place[..., :2]).unbind(-1)
        total = (first + second).clamp(min=torch.finfo(lows.dtype).tiny)
        start = (top[..., 0] * second + top[..., 1] * first - first * second) / total
        start = torch.minimum(torch.maximum(start, least), torch.maximum(top[..., 1], least))
    excess = highs - start[..., None]
    slopes = torch.where(excess > 0, excess / widths, 0.0)
    constant = start - torch.where(slopes > 0, slopes * lows, 0.0).sum(-1)
    known = slopes.isfinite().all(-1) & constant.isfinite()
    return torch.where(known[..., None], slopes, 0.0), torch.where(known, constant, top[..., 0])


add_rule(Nonlinear("max_pool", _pool_box, _pool))
