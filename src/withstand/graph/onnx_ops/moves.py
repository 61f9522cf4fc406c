"""ONNX operators that move elements about."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported
from withstand.graph.lower import moves
from withstand.graph.onnx_ops import Call, lowers

RESIZE_ATTRIBUTES = (
    "mode coordinate_transformation_mode cubic_coeff_a exclude_outside nearest_mode antialias extrapolation_value"
)


@lowers("Flatten")
def flatten(b: Builder, c: Call) -> Array:
    x = c.array(0)
    axis = c.attrs.get("axis", 1)
    return moves.flatten(b, x, axis + len(x.shape) if axis < 0 else axis)


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
    return moves.squeeze(b, c.array(0), c.ints(1, "axes"))


@lowers("Unsqueeze")
def unsqueeze(b: Builder, c: Call) -> Array:
    return moves.unsqueeze(b, c.array(0), c.ints(1, "axes") or [])


@lowers("Concat")
def concat(b: Builder, c: Call) -> Array:
    return moves.concat(b, [a for a in c.inputs if a is not None], c.attrs["axis"])


@lowers("Split")
def split(b: Builder, c: Call) -> list[Array]:
    x, axis = c.array(0), c.attrs.get("axis", 0)
    size, parts = x.shape[axis], c.attrs.get("num_outputs", c.named)
    even = -(-size // parts)
    sizes = c.ints(1, "split") or [min(even, size - start) for start in range(0, size, even)]
    ends = list(itertools.accumulate(sizes, initial=0))
    return [moves.slice_axis(b, x, axis, start, stop) for start, stop in itertools.pairwise(ends)]


@lowers("Slice")
def slice_(b: Builder, c: Call) -> Array:
    x = c.array(0)
    starts, stops = c.ints(1, "starts") or [], c.ints(2, "ends") or []
    axes = c.ints(3, "axes") or list(range(len(starts)))
    steps = c.ints(4, "steps") or [1] * len(starts)
    for start, stop, axis, step in zip(starts, stops, axes, steps):
        end = None if step < 0 and stop < -x.shape[axis] else stop
        x = moves.slice_axis(b, x, axis, start, end, step)
    return x


@lowers("Gather")
def gather(b: Builder, c: Call) -> Array:
    index = c.constant(1)
    if index is None:
        raise Unsupported("lacks its indices")
    return moves.take(b, c.array(0), index, c.attrs.get("axis", 0))


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
    axes = c.ints(3, "axes") or list(range(len(x.shape)))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(c.attrs.get("mode", "constant"))
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
    scales_at = 1 if c.op == "Upsample" or c.opset < 11 else 2
    scales, sizes = c.constant(scales_at), c.ints(3, "sizes") if c.opset >= 11 else None
    factors = c.attrs.get("scales") if scales is None else scales.tolist()
    axes = c.attrs.get("axes", list(range(len(x.shape))))
    for position, axis in enumerate(axes):
        size = x.shape[axis]
        target = sizes[position] if sizes else int(size * factors[position]) if factors else size
        if target != size:
            scale = float(factors[position]) if factors and not sizes else None
            x = moves.interpolate(b, x, _weights(c, size, target, scale), axis)
    return x


def _weights(c: Call, size: int, target: int, scale: float | None) -> Tensor:
    """The matrix [target, size] of a resize along one axis, read off its answers to unit vectors."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    modern = c.op == "Resize" and c.opset >= 11
    attrs = {k: v for k, v in c.attrs.items() if k in RESIZE_ATTRIBUTES.split()}
    if not modern:
        attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize" or attrs.get("keep_aspect_ratio_policy"):
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
