"""ONNX operators that move numbers about, as steps of the checker's networks."""

import math
from itertools import accumulate

import numpy as np

from withstand.checker.maps import Take
from withstand.checker.node import Node, Refused, Value, axis_of, sized
from withstand.checker.reading import Reading, reads


@reads("Flatten")
def flatten(r: Reading, n: Node) -> Value:
    value, axis = n.value(), n.attr("axis")
    rank = len(value.shape)
    axis = rank if axis == rank else axis_of(axis, rank)
    return r.moved(value, r.places(value).reshape(int(np.prod(value.shape[:axis])), -1))


@reads("Reshape")
def reshape(r: Reading, n: Node) -> Value:
    value, wanted = n.value(), n.whole(1, "shape")
    if wanted is None or min(wanted, default=0) < -1:
        raise Refused("has no shape that can be made")
    if not n.attr("allowzero"):
        wanted = [value.shape[i] if s == 0 else s for i, s in enumerate(wanted)]
    return r.moved(value, r.places(value).reshape(wanted))


@reads("Squeeze")
def squeeze(r: Reading, n: Node) -> Value:
    value = n.value()
    axes = n.axes(1, len(value.shape))
    if axes == []:
        raise Refused("removes a list of axes that is empty, which runtimes take for none or for all")
    return r.moved(value, r.places(value).squeeze(None if axes is None else tuple(axes)))


@reads("Unsqueeze")
def unsqueeze(r: Reading, n: Node) -> Value:
    return r.moved(n.value(), np.expand_dims(r.places(n.value()), tuple(n.whole(1, "axes") or ())))


@reads("Transpose")
def transpose(r: Reading, n: Node) -> Value:
    return r.moved(n.value(), r.places(n.value()).transpose(n.attr("perm")))


@reads("Slice")
def cut(r: Reading, n: Node) -> Value:
    """A start beyond the end from which it steps is the last place, or the first, as numpy has it but for steps back
    from before the first."""
    places = r.places(n.value())
    starts, ends, axes = n.whole(1, "starts") or [], n.whole(2, "ends") or [], n.axes(3, places.ndim)
    axes = list(range(len(starts))) if axes is None else axes
    steps = n.whole(4, "steps")
    steps = [1] * len(starts) if steps is None else steps
    if len(set(axes)) < len(axes):
        raise Refused("names an axis twice")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = places.shape[axis]
        first = max(start, -size) if step < 0 else start
        stop = None if step < 0 and end < -size else end
        index = [slice(None)] * places.ndim
        index[axis] = slice(first, stop, step)
        places = places[tuple(index)]
    return r.moved(n.value(), places)


@reads("Gather")
def gather(r: Reading, n: Node) -> Value:
    places, index = r.places(n.value()), n.needed(1)
    sized([places.size, index.size])
    return r.moved(n.value(), np.take(places, index, axis=n.attr("axis")))


@reads("Expand")
def expand(r: Reading, n: Node) -> Value:
    places = r.places(n.value())
    return r.moved(n.value(), np.broadcast_to(places, np.broadcast_shapes(places.shape, n.whole(1, "shape") or ())))


@reads("Split")
def split(r: Reading, n: Node) -> list[Value]:
    places = r.places(n.value())
    axis, count, sizes = axis_of(n.attr("axis"), places.ndim), n.attr("num_outputs"), n.whole(1, "split")
    size = places.shape[axis]
    if sizes is None:
        each = -(-size // n.outputs)
        if count not in (None, n.outputs) or (count is None and size % n.outputs):
            raise Refused(f"splits {size} into {n.outputs} parts of which it does not tell the sizes")
        sizes = [min(each, size - each * k) for k in range(n.outputs)]
    elif count is not None:
        raise Refused("tells its parts twice")
    if len(sizes) != n.outputs or sum(sizes) != size or min(sizes) < 0:
        raise Refused(f"splits {size} into parts of {sizes}")
    return [r.moved(n.value(), part) for part in np.split(places, list(accumulate(sizes))[:-1], axis)]


@reads("Pad")
def pad(r: Reading, n: Node) -> Value:
    places = r.places(n.value())
    if n.attr("mode") != "constant":
        raise Refused("pads with something else than a constant")
    pads, axes = n.whole(1, "pads") or [], n.axes(3, places.ndim)
    axes = list(range(places.ndim)) if axes is None else axes
    if min(pads, default=0) < 0:
        raise Refused("cuts by negative padding")
    if len(pads) != 2 * len(axes) or len(set(axes)) < len(axes):
        raise Refused(f"has {len(pads)} paddings for {len(axes)} axes")
    widths = [(0, 0)] * places.ndim
    for axis, before, after in zip(axes, pads, pads[len(axes) :]):
        widths[axis] = (before, after)
    sized([size + sum(width) for size, width in zip(places.shape, widths, strict=True)])
    index = np.pad(places, widths, constant_values=-1)
    padded, filled = r.moved(n.value(), index), n.number(2, "value") or 0
    return padded if filled == 0 else r.plus(padded, np.where(index < 0, filled, 0))


@reads("Concat")
def concat(r: Reading, n: Node) -> Value:
    given = n.inputs
    shapes = [i.shape for i in given if i is not None]
    axis = axis_of(n.attr("axis"), len(shapes[0]))
    sized([sum(math.prod(shape) for shape in shapes)])
    blank = [np.full(shape, -1) for shape in shapes]
    parts, bias = [], []
    for k, one in enumerate(given):
        if isinstance(one, Value):
            index = np.concatenate([*blank[:k], r.places(one), *blank[k + 1 :]], axis)
            parts.append((one, Take(index.ravel(), r.sizes[one.number])))
            bias.append(np.zeros(one.shape))
        else:
            bias.append(n.needed(k))
    constant = np.concatenate(bias, axis)
    return r.affine(parts, constant if constant.any() else None, constant.shape)
