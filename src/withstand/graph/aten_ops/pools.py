"""ATen pooling, reductions, softmax and resizing."""

from typing import Any

import torch
import torch.nn.functional as F

from withstand.graph.aten_ops import captures, listed, spread
from withstand.graph.builder import Array, Builder, Unsupported, number
from withstand.graph.lower import arith, moves, pools


def _batched(b: Builder, x: Array, rank: int) -> tuple[Array, bool]:
    """x with a batch axis, and whether it had none."""
    unbatched = len(x.shape) == rank + 1
    return (moves.unsqueeze(b, x, (0,)) if unbatched else x), unbatched


def _register_pools(rank: int) -> None:
    @captures(f"max_pool{rank}d")
    def max_pool(
        b: Builder, x: Array, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> Array:
        x, unbatched = _batched(b, x, rank)
        size, pads = spread(kernel, rank), [(p, p) for p in spread(padding, rank)]
        step = spread(stride, rank) or size
        y = pools.max_pool(b, x, size, step, pads, spread(dilation, rank), ceil)
        return moves.squeeze(b, y, (0,)) if unbatched else y

    @captures(f"avg_pool{rank}d")
    def avg_pool(
        b: Builder,
        x: Array,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil: bool = False,
        count_pads: bool = True,
        divisor: int | None = None,
    ) -> Array:
        if divisor is not None:
            raise Unsupported("averages with a divisor of its own")
        x, unbatched = _batched(b, x, rank)
        size, pads = spread(kernel, rank), [(p, p) for p in spread(padding, rank)]
        step = spread(stride, rank) or size
        y = pools.avg_pool(b, x, size, step, pads, [1] * rank, ceil, count_pads)
        return moves.squeeze(b, y, (0,)) if unbatched else y

    @captures(f"adaptive_avg_pool{rank}d", f"_adaptive_avg_pool{rank}d")
    def adaptive_avg_pool(b: Builder, x: Array, size: Any) -> Array:
        """Windows of one size become a plain pooling; others a weighted sum along each axis."""
        x, unbatched = _batched(b, x, rank)
        target = [s if t is None else t for s, t in zip(x.shape[2:], spread(size, rank))]
        if set(target) == {1}:
            y = pools.reduce(b, "mean", x, range(2, 2 + rank), True)
        elif all(s % t == 0 for s, t in zip(x.shape[2:], target)):
            kernel = [s // t for s, t in zip(x.shape[2:], target)]
            y = pools.avg_pool(b, x, kernel, kernel, [(0, 0)] * rank, [1] * rank, False, True)
        else:
            y = x
            for axis, count in enumerate(target, start=2):
                matrix = F.adaptive_avg_pool1d(torch.eye(x.shape[axis], dtype=b.dtype), count).t().contiguous()
                y = moves.interpolate(b, y, matrix, axis)
        return moves.squeeze(b, y, (0,)) if unbatched else y

    @captures(f"adaptive_max_pool{rank}d")
    def adaptive_max_pool(b: Builder, x: Array, size: Any) -> list[Array]:
        x, unbatched = _batched(b, x, rank)
        target = spread(size, rank)
        if any(s % t for s, t in zip(x.shape[2:], target)):
            raise Unsupported("pools adaptively into windows of different sizes")
        kernel = [s // t for s, t in zip(x.shape[2:], target)]
        y = pools.max_pool(b, x, kernel, kernel, [(0, 0)] * rank, [1] * rank, False)
        return [moves.squeeze(b, y, (0,)) if unbatched else y]


for _rank in (1, 2, 3):
    _register_pools(_rank)


@captures("mean")
def mean(b: Builder, x: Array, dim: Any = None, keepdim: bool = False, **_: Any) -> Array:
    return pools.reduce(b, "mean", x, listed(dim, len(x.shape)), keepdim)


@captures("sum")
def sum_(b: Builder, x: Array, dim: Any = None, keepdim: bool = False, **_: Any) -> Array:
    return pools.reduce(b, "sum", x, listed(dim, len(x.shape)), keepdim)


@captures("amax")
def amax(b: Builder, x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    return pools.reduce_max(b, x, listed(dim, len(x.shape)), keepdim)


@captures("amin")
def amin(b: Builder, x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    return pools.reduce_min(b, x, listed(dim, len(x.shape)), keepdim)


@captures("max")
def max_(b: Builder, x: Array, dim: Any = None, keepdim: bool = False) -> Any:
    """Over all elements, over one axis (the places of the maxima are not there), or of two arrays."""
    if dim is None:
        return amax(b, x)
    return [amax(b, x, dim, keepdim)] if isinstance(dim, int) else arith.binary(b, "max", x, dim)


@captures("min")
def min_(b: Builder, x: Array, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        return amin(b, x)
    return [amin(b, x, dim, keepdim)] if isinstance(dim, int) else arith.binary(b, "min", x, dim)


@captures("var")
def var(b: Builder, x: Array, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Array:
    axes = listed(dim, len(x.shape))
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    centred = arith.binary(b, "sub", x, pools.reduce(b, "mean", x, axes, True))
    total = pools.reduce(b, "sum", arith.power(b, centred, number(2.0)), axes, keepdim)
    return arith.binary(b, "div", total, number(count - correction))


@captures("softmax", "_softmax")
def softmax(b: Builder, x: Array, dim: int, *_: Any) -> Array:
    return pools.softmax(b, "softmax", x, dim)


@captures("log_softmax", "_log_softmax")
def log_softmax(b: Builder, x: Array, dim: int, *_: Any) -> Array:
    return pools.softmax(b, "log_softmax", x, dim)


def _resize(b: Builder, x: Array, mode: str, size: Any, factors: Any, **options: Any) -> Array:
    """A separable resize, one axis after the other by its answers to unit vectors."""
    for position, axis in enumerate(range(2, len(x.shape))):
        unit = torch.eye(x.shape[axis], dtype=b.dtype).unsqueeze(1)
        how: dict[str, Any] = {"size": size[position]} if size is not None else {"scale_factor": factors[position]}
        answer = F.interpolate(unit, mode=mode, **how, **options)
        x = moves.interpolate(b, x, answer[:, 0].t().contiguous(), axis)
    return x


@captures("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def upsample_nearest(b: Builder, x: Array, size: Any, *factors: Any) -> Array:
    if len(factors) > 1:
        raise Unsupported("resizes with sizes and factors given together")
    return _resize(b, x, "nearest", size, factors[0] if factors else None)


@captures("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def upsample_linear(b: Builder, x: Array, size: Any, align_corners: bool, *factors: Any) -> Array:
    if len(factors) > 1:
        raise Unsupported("resizes with sizes and factors given together")
    return _resize(b, x, "linear", size, factors[0] if factors else None, align_corners=align_corners)


@captures("cumsum")
def cumsum(b: Builder, x: Array, dim: int, **_: Any) -> Array:
    size = x.shape[dim]
    return moves.interpolate(b, x, torch.ones(size, size).tril(), dim % len(x.shape))
