"""ATen operations that move elements about."""

import math
from typing import Any

import torch
from torch import Tensor

from withstand.graph.aten_ops import captures, listed
from withstand.graph.builder import Array, Builder, Unsupported, Value
from withstand.graph.lower import moves


@captures("view", "reshape", "_unsafe_view", "view_copy", "_reshape_copy")
def reshape(b: Builder, x: Array, shape: list[int]) -> Array:
    return moves.reshape(b, x, shape, b.exported_rows)


@captures("flatten")
def flatten(b: Builder, x: Array, start: int = 0, end: int = -1) -> Array:
    rank = len(x.shape)
    start, end = start % rank, end % rank
    return moves.reshape(b, x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


@captures("unflatten")
def unflatten(b: Builder, x: Array, dim: int, sizes: list[int]) -> Array:
    dim %= len(x.shape)
    known = -math.prod(sizes) if -1 in sizes else 0
    full = [x.shape[dim] // known if s == -1 else s for s in sizes]
    return moves.reshape(b, x, (*x.shape[:dim], *full, *x.shape[dim + 1 :]))


@captures("permute")
def permute(b: Builder, x: Array, dims: list[int]) -> Array:
    return moves.transpose(b, x, listed(dims, len(x.shape)))


@captures("transpose", "swapaxes")
def transpose(b: Builder, x: Array, first: int, second: int) -> Array:
    perm = list(range(len(x.shape)))
    perm[first], perm[second] = perm[second], perm[first]
    return moves.transpose(b, x, perm)


@captures("t", "numpy_T")
def t(b: Builder, x: Array) -> Array:
    return moves.transpose(b, x, list(reversed(range(len(x.shape)))))


@captures("squeeze")
def squeeze(b: Builder, x: Array, dims: Any = None) -> Array:
    axes = [d for d in listed(dims, len(x.shape)) if x.shape[d] == 1]
    return moves.squeeze(b, x, axes)


@captures("unsqueeze")
def unsqueeze(b: Builder, x: Array, dim: int) -> Array:
    return moves.unsqueeze(b, x, (dim,))


@captures("cat", "concat")
def cat(b: Builder, arrays: list[Array], dim: int = 0) -> Array:
    full = [a for a in arrays if tuple(a.shape) != (0,)]
    return moves.concat(b, full, dim)


@captures("stack")
def stack(b: Builder, arrays: list[Array], dim: int = 0) -> Array:
    rank = len(arrays[0].shape) + 1
    return moves.concat(b, [moves.unsqueeze(b, a, (dim % rank,)) for a in arrays], dim % rank)


@captures("slice")
def slice_(
    b: Builder, x: Array, dim: int = 0, start: int | None = None, stop: int | None = None, step: int = 1
) -> Array:
    return moves.slice_axis(b, x, dim, 0 if start is None else start, stop, step)


@captures("narrow")
def narrow(b: Builder, x: Array, dim: int, start: int, length: int) -> Array:
    return moves.slice_axis(b, x, dim, start, start + length)


@captures("select")
def select(b: Builder, x: Array, dim: int, index: int) -> Array:
    return moves.take(b, x, torch.tensor(index), dim)


@captures("unbind")
def unbind(b: Builder, x: Array, dim: int = 0) -> list[Array]:
    return [moves.take(b, x, torch.tensor(i), dim) for i in range(x.shape[dim])]


@captures("split", "split_with_sizes")
def split(b: Builder, x: Array, sizes: int | list[int], dim: int = 0) -> list[Array]:
    total, parts, start = x.shape[dim], [], 0
    lengths = [sizes] * -(-total // sizes) if isinstance(sizes, int) else sizes
    for length in lengths:
        parts.append(moves.slice_axis(b, x, dim, start, min(start + length, total)))
        start += length
    return parts


@captures("chunk")
def chunk(b: Builder, x: Array, chunks: int, dim: int = 0) -> list[Array]:
    return split(b, x, -(-x.shape[dim] // chunks), dim)


@captures("index_select")
def index_select(b: Builder, x: Array, dim: int, index: Array) -> Array:
    return moves.take(b, x, _constant(index), dim)


@captures("index")
def index_(b: Builder, x: Array, indices: list[Array | None]) -> Array:
    """Constant integers or masks along one axis, or along several that are merged first."""
    used = [d for d, i in enumerate(indices) if i is not None]
    if used != list(range(used[0], used[-1] + 1)):
        raise Unsupported("picks elements along axes that are apart")
    found = [_constant(i) for i in indices if i is not None]
    if any(i.dtype == torch.bool for i in found):
        if len(found) > 1 or found[0].dim() != 1:
            raise Unsupported("picks elements by a mask over several axes")
        found = [found[0].nonzero()[:, 0]]
    first, sizes = used[0], [x.shape[d] for d in used]
    flat = torch.zeros((), dtype=torch.int64)
    for size, index in zip(sizes, found):
        flat = flat * size + torch.where(index < 0, index + size, index)
    merged = moves.reshape(b, x, (*x.shape[:first], math.prod(sizes), *x.shape[used[-1] + 1 :]))
    return moves.take(b, merged, flat, first)


@captures("flip")
def flip(b: Builder, x: Array, dims: list[int]) -> Array:
    for dim in dims:
        x = moves.take(b, x, torch.arange(x.shape[dim] - 1, -1, -1), dim)
    return x


@captures("roll")
def roll(b: Builder, x: Array, shifts: Any, dims: Any = ()) -> Array:
    shifts, dims = ([v] if isinstance(v, int) else list(v) for v in (shifts, dims))
    if not dims:
        return moves.reshape(b, roll(b, moves.reshape(b, x, (-1,)), shifts, 0), x.shape)
    for shift, dim in zip(shifts, dims):
        x = moves.take(b, x, torch.arange(x.shape[dim]).roll(shift), dim)
    return x


@captures("constant_pad_nd")
def constant_pad(b: Builder, x: Array, pads: list[int], value: float = 0.0) -> Array:
    return pad(b, x, pads, "constant", value)


@captures("pad")
def pad(b: Builder, x: Array, pads: list[int], mode: str = "constant", value: float | None = None) -> Array:
    if mode not in ("constant", "reflect", "replicate"):
        raise Unsupported(f"pads in mode {mode}")
    pairs = list(zip(pads[::2], pads[1::2]))[::-1]
    return moves.pad(b, x, [(0, 0)] * (len(x.shape) - len(pairs)) + pairs, mode, value or 0.0)


@captures("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(b: Builder, x: Array, pads: list[int]) -> Array:
    return pad(b, x, pads, "reflect")


@captures("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(b: Builder, x: Array, pads: list[int]) -> Array:
    return pad(b, x, pads, "replicate")


@captures("expand", "expand_copy", "broadcast_to")
def expand(b: Builder, x: Array, shape: list[int], **_: Any) -> Array:
    missing = len(shape) - len(x.shape)
    sizes = [x.shape[i - missing] if s == -1 else s for i, s in enumerate(shape)]
    return moves.expand(b, x, sizes)


@captures("repeat")
def repeat(b: Builder, x: Array, repeats: list[int]) -> Array:
    return moves.tile(b, x, repeats)


@captures("pixel_shuffle")
def pixel_shuffle(b: Builder, x: Array, factor: int) -> Array:
    return moves.depth_to_space(b, x, factor, columns_first=False)


def _constant(index: Any) -> Tensor:
    if isinstance(index, Value):
        raise Unsupported("picks elements by places that depend on the input")
    return index
