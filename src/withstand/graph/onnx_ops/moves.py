"""ONNX operators that move elements about."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported
from withstand.graph.limits import too_large
from withstand.graph.lower import moves
from withstand.graph.onnx_call import axis_of
from withstand.graph.onnx_ops import Call, lowers

RESIZE_ATTRIBUTES = (
    "mode coordinate_transformation_mode cubic_coeff_a exclude_outside nearest_mode antialias extrapolation_value"
)


@lowers("Flatten")
def flatten(b: Builder, c: Call) -> Array:
    x = c.array(0)
    axis, rank = c.attrs["axis"], len(x.shape)
    return moves.flatten(b, x, rank if axis == rank else axis_of(axis, rank))


@lowers("Reshape")
def reshape(b: Builder, c: Call) -> Array:
    x, target = c.array(0), c.ints(1, "shape") or []
    if not c.attrs.get("allowzero", 0):
        target = [x.shape[i] if s == 0 else s for i, s in enumerate(target)]
    return moves.reshape(b, x, target, b.exported_rows)


@lowers("Transpose")
def transpose(b: Builder, c: Call) -> Array:
    x = c.array(0)
    return moves.transpose(b, x, c.attrs.get("perm", list(reversed(range(len(x.shape))))))


@lowers("Squeeze")
def squeeze(b: Builder, c: Call) -> Array:
    x = c.array(0)
    axes = c.axes(1, len(x.shape))
    if axes == []:
        raise Unsupported("removes a list of axes that is empty, which runtimes take for none or for all")
    if axes and any(x.shape[axis] != 1 for axis in axes):
        raise Unsupported(f"removes axes {axes} of a shape {tuple(x.shape)}")
    return moves.squeeze(b, x, axes)


@lowers("Unsqueeze")
def unsqueeze(b: Builder, c: Call) -> Array:
    x, axes = c.array(0), c.ints(1, "axes") or []
    rank = len(x.shape) + len(axes)
    if len({axis_of(axis, rank) for axis in axes}) < len(axes):
        raise Unsupported("names an axis twice")
    return moves.unsqueeze(b, x, axes)


@lowers("Concat")
def concat(b: Builder, c: Call) -> Array:
    arrays = [a for a in c.inputs if a is not None]
    return moves.concat(b, arrays, axis_of(c.attrs["axis"], len(arrays[0].shape)))


@lowers("Split")
def split(b: Builder, c: Call) -> list[Array]:
    x = c.array(0)
    axis, count, sizes = axis_of(c.attrs["axis"], len(x.shape)), c.attrs.get("num_outputs"), c.ints(1, "split")
    size = x.shape[axis]
    if sizes is None and (count or c.named) == c.named and (count is not None or size % c.named == 0):
        even = -(-size // c.named)
        sizes = [min(even, size - even * k) for k in range(c.named)]
    if sizes is None or len(sizes) != c.named or sum(sizes) != size or min(sizes) < 0:
        raise Unsupported(f"splits {size} into {c.named} parts of {sizes}")
    ends = list(itertools.accumulate(sizes, initial=0))
    return [moves.slice_axis(b, x, axis, start, stop) for start, stop in itertools.pairwise(ends)]


@lowers("Slice")
def slice_(b: Builder, c: Call) -> Array:
    x = c.array(0)
    starts, stops, axes = c.ints(1, "starts") or [], c.ints(2, "ends") or [], c.axes(3, len(x.shape))
    axes = list(range(len(starts))) if axes is None else axes
    steps = c.ints(4, "steps")
    steps = [1] * len(starts) if steps is None else steps
    if len(set(axes)) < len(axes):
        raise Unsupported("names an axis twice")
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        size = x.shape[axis]
        first = max(start, -size) if step < 0 else start
        x = moves.slice_axis(b, x, axis, first, None if step < 0 and stop < -size else stop, step)
    return x


@lowers("Gather")
def gather(b: Builder, c: Call) -> Array:
    index = c.constant(1)
    if index is None:
        raise Unsupported("lacks its indices")
    x = c.array(0)
    axis = axis_of(c.attrs["axis"], len(x.shape))
    if index.numel() and not -x.shape[axis] <= int(index.min()) <= int(index.max()) < x.shape[axis]:
        raise Unsupported(f"picks places that an axis of {x.shape[axis]} does not have")
    return moves.take(b, x, index, axis)


@lowers("GatherND")
def gather_nd(b: Builder, c: Call) -> Array:
    """Constant places in the first axes, which are merged."""
    x, index = c.array(0), c.constant(1)
    if index is None or c.attrs.get("batch_dims", 0):
        raise Unsupported("gathers with batch axes")
    count = index.shape[-1]
    flat = torch.zeros((), dtype=torch.int64)
    for axis in range(count):
        place = index[..., axis]
        flat = flat * x.shape[axis] + torch.where(place < 0, place + x.shape[axis], place)
    merged = moves.reshape(b, x, (math.prod(x.shape[:count]), *x.shape[count:]))
    return moves.take(b, merged, flat, 0)


@lowers("Pad")
def pad(b: Builder, c: Call) -> Array:
    x, flat, value = c.array(0), c.ints(1, "pads") or [], c.constant(2)
    axes = c.axes(3, len(x.shape))
    axes = list(range(len(x.shape))) if axes is None else axes
    if len(flat) != 2 * len(axes) or len(set(axes)) < len(axes):
        raise Unsupported(f"has {len(flat)} paddings for {len(axes)} axes")
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(c.attrs["mode"])
    if mode is None:
        raise Unsupported(f"pads in mode {c.attrs['mode']}")
    pads = [(0, 0)] * len(x.shape)
    for position, axis in enumerate(axes):
        pads[axis] = (flat[position], flat[position + len(axes)])
    fill = float(c.attrs.get("value", 0.0)) if value is None else float(value)
    return moves.pad(b, x, pads, mode, fill)


@lowers("Expand")
def expand(b: Builder, c: Call) -> Array:
    return moves.expand(b, c.array(0), c.ints(1, "shape") or [])


@lowers("Tile")
def tile(b: Builder, c: Call) -> Array:
    return moves.tile(b, c.array(0), c.ints(1, "repeats") or [])


@lowers("DepthToSpace")
def depth_to_space(b: Builder, c: Call) -> Array:
    columns_first = c.attrs.get("mode", "DCR") == "DCR"
    return moves.depth_to_space(b, c.array(0), c.attrs["blocksize"], columns_first=columns_first)


@lowers("SpaceToDepth")
def space_to_depth(b: Builder, c: Call) -> Array:
    return moves.space_to_depth(b, c.array(0), c.attrs["blocksize"])


@lowers("Resize", "Upsample")
def resize(b: Builder, c: Call) -> Array:
    """Every mode is a weighted sum along one axis after the other; the weights are those of onnx's own definition."""
    x = c.array(0)
    modern = c.op == "Resize" and c.version >= 11
    scales, sizes = c.constant(2 if modern else 1), c.ints(3, "sizes") if modern else None
    scales = scales if scales is not None and scales.numel() else None
    if modern:
        c.optional(1)  # where to crop, which no mode that is read does
    factors = c.attrs.get("scales") if scales is None else scales.tolist()
    axes = [axis_of(axis, len(x.shape)) for axis in c.attrs.get("axes", range(len(x.shape)))]
    for position, axis in enumerate(axes):
        size = x.shape[axis]
        target = sizes[position] if sizes else int(size * factors[position]) if factors else size
        why = too_large([size, target])
        if why is not None:
            raise Unsupported(why)
        if target != size:
            scale = float(factors[position]) if factors and not sizes else None
            x = moves.interpolate(b, x, _weights(c, size, target, scale), axis)
    return x


def _weights(c: Call, size: int, target: int, scale: float | None) -> Tensor:
    """The matrix [target, size] of a resize along one axis, read off its answers to unit vectors."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    modern = c.op == "Resize" and c.version >= 11
    attrs = {k: v for k, v in c.attrs.items() if k in RESIZE_ATTRIBUTES.split()}
    if not modern:
        attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if (
        attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        or c.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise Unsupported("resizes by a crop")
    given = ["x", "", "scales"] if scale is not None else ["x", "", "", "sizes"]
    node = onnx.helper.make_node("Resize", given, ["y"], **attrs)
    feeds: dict[str, Any] = {"x": np.eye(size, dtype=np.float32)[:, None, None, :]}
    if scale is not None:
        feeds["scales"] = np.array([1, 1, 1, scale], np.float32)
    else:
        feeds["sizes"] = np.array([size, 1, 1, target], np.int64)
    answer = next(iter(ReferenceEvaluator(node).run(None, feeds)))
    return torch.from_numpy(np.asarray(answer, np.float32)[:, 0, 0, :].T.copy())
