"""Pooling with any padding, and reductions over axes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value
from withstand.graph.lower.arith import binary, unary
from withstand.graph.lower.moves import pad, reshape, transpose
from withstand.graph.ops import OPS

Pads = Sequence[tuple[int, int]]
LOWEST = torch.finfo(torch.float32).min


def stated_size(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    """How many windows begin within the data and its padding, where sizes are rounded up."""
    return -(-(size + sum(pads) - dilation * (kernel - 1) - 1) // stride) + 1


def pooled_size(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], ceil: bool) -> int:
    """How many windows fit; with `ceil` one more may start inside the data or its left padding."""
    if not ceil:
        return (size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
    count = stated_size(size, kernel, stride, dilation, pads)
    return count - 1 if (count - 1) * stride >= size + pads[0] else count


def max_pool(
    b: Builder, x: Array, kernel: Sequence[int], stride: Sequence[int], pads: Pads, dilation: Sequence[int], ceil: bool
) -> Value:
    """Max pooling; uneven padding becomes a cut-off last window where that is the same, else explicit padding."""
    x = _image(b, x)
    axes = list(zip(x.shape[2:], kernel, stride, dilation))
    counts = [pooled_size(*axis, pair, ceil) for axis, pair in zip(axes, pads)]
    padding = tuple(before for before, _ in pads)
    attrs = {"kernel": tuple(kernel), "stride": tuple(stride), "dilation": tuple(dilation)}
    if all(2 * p <= k for p, k in zip(padding, kernel)):
        for mode in (False, True):
            if counts == [pooled_size(*axis, (p, p), mode) for axis, p in zip(axes, padding)]:
                return b.emit("max_pool", x, folded=False, padding=padding, ceil_mode=mode, **attrs)
    filled = pad(b, x, [(0, 0), (0, 0), *_room(axes, counts, pads)], value=LOWEST)
    return b.emit("max_pool", filled, folded=False, padding=(0,) * len(kernel), ceil_mode=False, **attrs)


def avg_pool(
    b: Builder,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    ceil: bool,
    count_pads: bool,
) -> Array:
    """Average pooling; where windows hang over the edge, each average is scaled to the elements that count."""
    x = _image(b, x)
    axes = list(zip(x.shape[2:], kernel, stride, dilation))
    counts = [pooled_size(*axis, pair, ceil) for axis, pair in zip(axes, pads)]
    padding = tuple(before for before, _ in pads)
    even = counts == [pooled_size(*axis, (p, p), False) for axis, p in zip(axes, padding)]
    even = even and all(before == after and 2 * before <= k for (before, after), k in zip(pads, kernel))
    if even and set(dilation) == {1}:
        include = count_pads or not any(padding)
        return _avg_pool(b, x, kernel, stride, padding, include)
    filled = pad(b, x, [(0, 0), (0, 0), *_room(axes, counts, pads)])
    assert isinstance(filled, Value)
    if set(dilation) == {1}:
        y = _avg_pool(b, filled, kernel, stride, (0,) * len(kernel), True)
    else:
        y = _dilated_average(b, filled, kernel, stride, dilation)
    factor = torch.ones(())
    for axis, count, pair in zip(axes, counts, pads):
        factor = factor.unsqueeze(-1) * _share(axis, count, pair, count_pads)
    return y if bool((factor == 1).all()) else binary(b, "mul", y, factor)


def _avg_pool(
    b: Builder, x: Value, kernel: Sequence[int], stride: Sequence[int], padding: tuple[int, ...], include: bool
) -> Value:
    attrs = {"kernel": tuple(kernel), "stride": tuple(stride), "padding": padding, "count_include_pad": include}
    return b.emit("avg_pool", x, folded=False, ceil_mode=False, **attrs)


def _dilated_average(
    b: Builder, x: Value, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Value:
    channels = x.shape[1]
    weight = torch.full((channels, 1, *kernel), 1 / math.prod(kernel), dtype=b.dtype)
    attrs = {"stride": tuple(stride), "dilation": tuple(dilation), "padding": (0,) * len(kernel)}
    return b.emit("conv", x, weight, folded=False, groups=channels, **attrs)


def _room(axes: list[tuple[int, int, int, int]], counts: list[int], pads: Pads) -> list[tuple[int, int]]:
    """Padding that holds all windows."""
    room = []
    for (size, kernel, stride, dilation), count, (before, _) in zip(axes, counts, pads):
        length = (count - 1) * stride + dilation * (kernel - 1) + 1
        room.append((before, max(length - size - before, 0)))
    return room


def _share(axis: tuple[int, int, int, int], count: int, pads: tuple[int, int], count_pads: bool) -> Tensor:
    """Window size over the number of its elements that count, for each window along one axis."""
    size, kernel, stride, dilation = axis
    places = torch.arange(count)[:, None] * stride + torch.arange(kernel) * dilation - pads[0]
    low, high = (-pads[0], size + pads[1]) if count_pads else (0, size)
    return kernel / ((places >= low) & (places < high)).sum(1).double()


def reduce(b: Builder, op: str, x: Array, axes: Sequence[int], keepdim: bool) -> Array:
    """mean or sum over axes."""
    axes = sorted(a % len(x.shape) for a in axes)
    if isinstance(x, Tensor):
        return OPS[op].run(x, dims=tuple(axes), keepdim=keepdim)
    if not axes:
        return x
    if axes == [0] and not x.folded:
        return x if keepdim else reshape(b, x, x.shape[1:])
    x = b.free(x, *axes)
    return b.emit(op, x, folded=x.folded, dims=tuple(x.axis(a) for a in axes), keepdim=keepdim)


def reduce_max(b: Builder, x: Array, axes: Sequence[int], keepdim: bool) -> Array:
    """Maximum over axes, as one pooling window."""
    rank = len(x.shape)
    gone = sorted(a % rank for a in axes)
    kept = [a for a in range(rank) if a not in gone]
    shape = [1 if a in gone else s for a, s in enumerate(x.shape)] if keepdim else [x.shape[a] for a in kept]
    if isinstance(x, Tensor):
        return x.amax(gone, keepdim)
    x = transpose(b, x, kept + gone)
    count = math.prod(x.shape[len(kept) :])
    flat = reshape(b, x, (1, math.prod(x.shape[: len(kept)]), count))
    return reshape(b, max_pool(b, flat, (count,), (count,), [(0, 0)], (1,), False), shape)


def reduce_min(b: Builder, x: Array, axes: Sequence[int], keepdim: bool) -> Array:
    """Minimum over axes."""
    return unary(b, "neg", reduce_max(b, unary(b, "neg", x), axes, keepdim))


def softmax(b: Builder, op: str, x: Array, axis: int) -> Array:
    """softmax or log_softmax along one axis."""
    if isinstance(x, Tensor):
        return OPS[op].run(x, dim=axis)
    axis %= len(x.shape)
    x = b.free(x, axis)
    return b.emit(op, x, folded=x.folded, dim=x.axis(axis))


def _image(b: Builder, x: Array) -> Value:
    if isinstance(x, Tensor):
        raise Unsupported("pools a constant")
    return b.batched(x)
