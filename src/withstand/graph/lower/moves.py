"""Operations that move elements about: reshape, transpose, slice, gather, concat, pad, expand."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value
from withstand.graph.limits import too_large


def reshape(b: Builder, x: Array, shape: Sequence[int], exported_batch: int = 1) -> Array:
    """x in another shape, one size of which may be -1; a leading size that is the exported batch becomes 1."""
    shape, count = list(shape), math.prod(x.shape)
    rest = math.prod(s for s in shape[1:] if s != -1)
    if exported_batch > 1 and shape[:1] == [exported_batch] and (count % (rest * exported_batch) or -1 not in shape):
        shape[0] = 1
    if -1 in shape:
        known = math.prod(s for s in shape if s != -1)
        shape[shape.index(-1)] = count // known if known else 0
    target = tuple(shape)
    if isinstance(x, Tensor):
        return x.reshape(target)
    folded = target[:1] != (1,)
    inner = target if folded else target[1:]
    if inner == (x.shape if x.folded else x.shape[1:]):
        return Value(x.name, target, folded)
    return b.emit("reshape", x, folded=folded, shape=inner)


def transpose(b: Builder, x: Array, perm: Sequence[int]) -> Array:
    """Axes in another order."""
    if isinstance(x, Tensor):
        return x.permute(*perm)
    if tuple(perm) == tuple(range(len(x.shape))):
        return x
    if x.folded:
        return b.emit("transpose", x, folded=True, perm=(0, *(p + 1 for p in perm)))
    if perm[0] != 0:
        x = b.single(x)
        return b.emit("transpose", x, folded=True, perm=(0, *(p + 1 for p in perm)))
    return b.emit("transpose", x, folded=False, perm=tuple(perm))


def squeeze(b: Builder, x: Array, axes: Sequence[int] | None) -> Array:
    """Without these axes of size 1 (None: all of them)."""
    rank = len(x.shape)
    gone = {a % rank for a in axes} if axes is not None else {a for a in range(rank) if x.shape[a] == 1}
    return reshape(b, x, [s for a, s in enumerate(x.shape) if a not in gone])


def unsqueeze(b: Builder, x: Array, axes: Sequence[int]) -> Array:
    """With axes of size 1 at these places of the result."""
    rank = len(x.shape) + len(axes)
    new = {a % rank for a in axes}
    sizes = iter(x.shape)
    return reshape(b, x, [1 if a in new else next(sizes) for a in range(rank)])


def flatten(b: Builder, x: Array, axis: int) -> Array:
    """A matrix: the axes before `axis`, and the rest."""
    return reshape(b, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def slice_axis(b: Builder, x: Array, axis: int, start: int, stop: int | None, step: int = 1) -> Array:
    """x[start:stop:step] along one axis, as Python counts."""
    axis, picked = axis % len(x.shape), range(x.shape[axis])[slice(start, stop, step)]
    if picked == range(x.shape[axis]):
        return x
    if isinstance(x, Tensor) or not picked or picked.step < 0:
        return take(b, x, torch.tensor(list(picked), dtype=torch.int64), axis)
    x = b.free(x, axis)
    span = {"start": picked.start, "stop": picked[-1] + 1, "step": picked.step}
    return b.emit("slice", x, folded=x.folded, dim=x.axis(axis), **span)


def take(b: Builder, x: Array, index: Tensor, axis: int) -> Array:
    """Elements of one axis by a constant integer array, whose shape replaces the axis."""
    axis %= len(x.shape)
    index = torch.where(index < 0, index + x.shape[axis], index).long()
    if isinstance(x, Tensor):
        picked = x.index_select(axis, index.reshape(-1))
        return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    x = b.free(x, axis)
    return b.emit("gather", x, index, folded=x.folded, dim=x.axis(axis))


def concat(b: Builder, arrays: Sequence[Array], axis: int) -> Array:
    """Arrays in a row along one axis."""
    axis %= len(arrays[0].shape)
    values = [a for a in arrays if isinstance(a, Value)]
    if not values:
        return torch.cat([a for a in arrays if isinstance(a, Tensor)], axis)
    folded = axis == 0 or any(v.shape[:1] != (1,) for v in values)
    if folded:
        parts = [a.unsqueeze(0) if isinstance(a, Tensor) else b.single(a) for a in arrays]
    else:
        parts = [a if isinstance(a, Tensor) else b.batched(a) for a in arrays]
    if len(parts) == 1:
        return parts[0]
    return b.emit("concat", *parts, folded=folded, dim=axis + 1 if folded else axis)


def expand(b: Builder, x: Array, shape: Sequence[int]) -> Array:
    """x broadcast against a shape (both ways)."""
    target = tuple(torch.broadcast_shapes(x.shape, tuple(shape)))
    if isinstance(x, Tensor):
        return x.expand(target)
    if target == x.shape:
        return x
    if len(target) == len(x.shape) and target[0] == 1:
        x = b.batched(x)
        return b.emit("expand", x, folded=False, shape=target[1:])
    return b.emit("expand", b.single(x), folded=True, shape=target)


def tile(b: Builder, x: Array, repeats: Sequence[int]) -> Array:
    """x repeated along each axis."""
    x = reshape(b, x, (1,) * (len(repeats) - len(x.shape)) + tuple(x.shape))
    why = too_large([size * count for size, count in zip(x.shape, repeats, strict=True)])
    if why is not None:
        raise Unsupported(why)
    for axis, count in enumerate(repeats):
        if count > 1:
            x = concat(b, [x] * count, axis)
    return x


def pad(b: Builder, x: Array, pads: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> Array:
    """x with (before, after) more elements on each axis; mode constant, reflect or replicate; negative crops."""
    for axis, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            x = slice_axis(b, x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    pads = [(max(before, 0), max(after, 0)) for before, after in pads]
    if not any(before or after for before, after in pads):
        return x
    if mode != "constant":
        return _pad_by_index(b, x, pads, mode)
    if isinstance(x, Tensor):
        return F.pad(x, [n for pair in reversed(pads) for n in pair], mode, value)
    x = b.free(x, *(a for a, pair in enumerate(pads) if any(pair)))
    inner = pads if x.folded else pads[1:]
    while inner and not any(inner[0]):
        inner = inner[1:]
    flat = tuple(n for pair in reversed(inner) for n in pair)
    return b.emit("pad", x, folded=x.folded, pads=flat, value=float(value))


def _pad_by_index(b: Builder, x: Array, pads: Sequence[tuple[int, int]], mode: str) -> Array:
    for axis, (before, after) in enumerate(pads):
        if before or after:
            size = x.shape[axis]
            index = torch.arange(-before, size + after)
            inside = index.clamp(0, size - 1) if mode == "replicate" else size - 1 - (size - 1 - index.abs()).abs()
            x = take(b, x, inside, axis)
    return x


def interpolate(b: Builder, x: Array, matrix: Tensor, axis: int) -> Array:
    """One axis replaced by weighted sums of itself: matrix [out, in]; a pure choice becomes a gather."""
    if bool(((matrix == 1).sum(1) == 1).all()) and bool(((matrix != 0).sum(1) == 1).all()):
        return take(b, x, matrix.argmax(1), axis)
    rank = len(x.shape)
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    x = transpose(b, x, swap)
    if isinstance(x, Tensor):
        return transpose(b, F.linear(x, matrix), swap)
    x = b.free(x, rank - 1)
    return transpose(b, b.emit("linear", x, matrix, folded=x.folded), swap)


def depth_to_space(b: Builder, x: Array, block: int, *, columns_first: bool) -> Array:
    """Channels moved into block x block pixels; columns_first: the blocks are the slower part of the channels."""
    n, c, h, w = x.shape
    inner = c // block**2
    split = (n, block, block, inner, h, w) if columns_first else (n, inner, block, block, h, w)
    perm = (0, 3, 4, 1, 5, 2) if columns_first else (0, 1, 4, 2, 5, 3)
    return reshape(b, transpose(b, reshape(b, x, split), perm), (n, inner, h * block, w * block))


def space_to_depth(b: Builder, x: Array, block: int) -> Array:
    """Blocks of pixels moved into channels, block position first."""
    n, c, h, w = x.shape
    split = reshape(b, x, (n, c, h // block, block, w // block, block))
    return reshape(b, transpose(b, split, (0, 3, 5, 1, 2, 4)), (n, c * block**2, h // block, w // block))
