"""Maximum and minimum of two values, and max pooling."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from withstand.bounds.planes import by_planes, dot, finite
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
    upper = finite([torch.where(decided, e, c) for e, c in zip(exact, chord, strict=True)], torch.inf)
    pick = (al / 2 + au / 2 >= bl / 2 + bu / 2).to(al.dtype)
    return [pick, 1 - pick, torch.zeros_like(pick)], upper


def _max_backward(rows: Tensor, boxes: Sequence[Box]) -> tuple[list[Tensor], Tensor]:
    return by_planes(rows, boxes, *_max_planes(*boxes))


def _min_backward(rows: Tensor, boxes: Sequence[Box]) -> tuple[list[Tensor], Tensor]:
    """min(a, b) = -max(-a, -b)."""
    negated = [(-high, -low) for low, high in boxes]
    lower, upper = _max_planes(*negated)
    return by_planes(rows, boxes, [*upper[:-1], -upper[-1]], [*lower[:-1], -lower[-1]])


add_rule(Nonlinear("max", _max_box, _max_backward))
add_rule(Nonlinear("min", _min_box, _min_backward))


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


def _pool_backward(rows: Tensor, boxes: Sequence[Box], **attrs: Any) -> tuple[list[Tensor], Tensor]:
    """Below by the input of the largest lower bound; above by that input where no other can exceed it, else by the
    largest upper bound."""
    low, high = boxes[0]
    size, out = tuple(low.shape[2:]), tuple(rows.shape[3:])
    kept = tuple(attrs[name] for name in ("kernel", "stride", "padding", "dilation"))
    index = _windows(size, out, *kept).to(low.device)
    flat_low, flat_high = low.flatten(2), high.flatten(2)
    inside = index.clamp(min=0)
    lows = flat_low[:, :, inside].masked_fill(index < 0, -torch.inf)
    highs = flat_high[:, :, inside].masked_fill(index < 0, -torch.inf)
    best = lows.argmax(3, keepdim=True)
    rivals = highs.scatter(3, best, -torch.inf).amax(3)
    dominant = lows.gather(3, best).squeeze(3) >= rivals
    source = inside.expand(*best.shape[:3], -1).gather(3, best).squeeze(3)
    flat = rows.flatten(3)
    below, above = flat.clamp(min=0), flat.clamp(max=0)
    through = below + above * dominant[:, None]
    back = flat.new_zeros(*flat.shape[:3], flat_low.shape[2])
    back.scatter_add_(3, source[:, None].expand_as(through), through)
    constant = dot(above, torch.where(dominant, 0.0, highs.amax(3)))
    return [back.reshape(*rows.shape[:2], *low.shape[1:])], constant


add_rule(Nonlinear("max_pool", _pool_box, _pool_backward))
