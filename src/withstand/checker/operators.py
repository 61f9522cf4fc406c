"""ONNX operators as steps of the checker's networks: one function an operator."""

import numpy as np

from withstand.checker.functions import ABS, RELU, Clip, Function, Kinked
from withstand.checker.maps import Dense, Identity, Scale, Take
from withstand.checker.reading import OPERATORS, Array, Node, Operator, Reading, Refused, Value, reads
from withstand.checker.smooth import Elu, Sigmoid, Softplus, Tanh


@reads("Identity", "Dropout", "Cast")
def same(r: Reading, n: Node) -> Value:
    if n.op == "Cast" and n.attrs["to"] not in (1, 10, 11, 16):
        raise Refused("turns numbers into another kind than floats")
    if n.op == "Dropout" and len(n.inputs) > 2 and n.needed(2).any():
        raise Refused("is exported in training mode")
    return n.value()


@reads("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(r: Reading, n: Node) -> Value:
    value = n.value()
    places = r.places(value)
    if n.op == "Flatten":
        axis = n.attrs.get("axis", 1)
        axis += len(value.shape) if axis < 0 else 0
        shape = (int(np.prod(value.shape[:axis])), -1)
    elif n.op == "Reshape":
        wanted = n.whole(1, "shape") or []
        keep = not n.attrs.get("allowzero", 0)
        shape = tuple(value.shape[i] if s == 0 and keep else s for i, s in enumerate(wanted))
    elif n.op == "Squeeze":
        axes = n.whole(1, "axes")
        return r.moved(value, places.squeeze(None if axes is None else tuple(axes)))
    else:
        return r.moved(value, np.expand_dims(places, tuple(n.whole(1, "axes") or ())))
    return r.moved(value, places.reshape(shape))


@reads("Transpose")
def transpose(r: Reading, n: Node) -> Value:
    return r.moved(n.value(), r.places(n.value()).transpose(n.attrs.get("perm")))


@reads("Slice")
def cut(r: Reading, n: Node) -> Value:
    places = r.places(n.value())
    starts, ends = n.whole(1, "starts") or [], n.whole(2, "ends") or []
    axes = n.whole(3, "axes") or list(range(len(starts)))
    steps = n.whole(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -places.shape[axis] else end
        index = [slice(None)] * places.ndim
        index[axis] = slice(start, stop, step)
        places = places[tuple(index)]
    return r.moved(n.value(), places)


@reads("Gather")
def gather(r: Reading, n: Node) -> Value:
    return r.moved(n.value(), np.take(r.places(n.value()), n.needed(1), axis=n.attrs.get("axis", 0)))


@reads("Expand")
def expand(r: Reading, n: Node) -> Value:
    places = r.places(n.value())
    shape = np.broadcast_shapes(places.shape, tuple(int(i) for i in n.needed(1)))
    return r.moved(n.value(), np.broadcast_to(places, shape))


@reads("Split")
def split(r: Reading, n: Node) -> list[Value]:
    places, axis = r.places(n.value()), n.attrs.get("axis", 0)
    sizes = n.whole(1, "split")
    if sizes is None:
        each = -(-places.shape[axis] // n.outputs)
        sizes = [each] * (n.outputs - 1)
    return [r.moved(n.value(), part) for part in np.split(places, np.cumsum(sizes)[: n.outputs - 1], axis)]


@reads("Pad")
def pad(r: Reading, n: Node) -> Value:
    places = r.places(n.value())
    if n.attrs.get("mode", "constant") != "constant":
        raise Refused("pads with something else than a constant")
    pads = n.whole(1, "pads") or []
    axes = n.whole(3, "axes") or list(range(places.ndim))
    if min(pads, default=0) < 0:
        raise Refused("cuts by negative padding")
    widths = [(0, 0)] * places.ndim
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        widths[axis] = (before, after)
    index = np.pad(places, widths, constant_values=-1)
    padded = r.moved(n.value(), index)
    number = n.constant(2)
    filled = float(n.attrs.get("value", 0.0) if number is None else number.ravel()[0])
    return padded if filled == 0 else r.plus(padded, np.where(index < 0, filled, 0.0))


@reads("Concat")
def concat(r: Reading, n: Node) -> Value:
    axis = n.attrs["axis"]
    shapes = [i.shape for i in n.inputs if i is not None]
    blank = [np.full(shape, -1) for shape in shapes]
    parts, bias = [], []
    for k in range(len(shapes)):
        given = n.inputs[k]
        if isinstance(given, Value):
            index = np.concatenate([*blank[:k], r.places(given), *blank[k + 1 :]], axis)
            parts.append((given, Take(index.ravel(), r.sizes[given.number])))
            bias.append(np.zeros(given.shape))
        else:
            bias.append(n.needed(k))
    constant = np.concatenate(bias, axis)
    return r.affine(parts, constant if constant.any() else None, constant.shape)


@reads("Neg")
def negate(r: Reading, n: Node) -> Value:
    return _scaled(r, n.value(), np.array(-1.0))


@reads("Add", "Sub", "Sum")
def add(r: Reading, n: Node) -> Value:
    total = None
    for k, given in enumerate(n.inputs):
        flip = -1.0 if n.op == "Sub" and k == 1 else 1.0
        if total is None:
            total = given if isinstance(given, Value) else n.needed(k)
        elif isinstance(given, Value) and isinstance(total, Value):
            total = _sum(r, total, given, flip)
        elif isinstance(given, Value):
            total = r.plus(given if flip > 0 else _scaled(r, given, np.array(-1.0)), np.asarray(total))
        elif isinstance(total, Value):
            total = r.plus(total, flip * n.needed(k))
        else:
            raise Refused("adds up constants, which would have to be rounded")
    assert isinstance(total, Value)
    return total


def _sum(r: Reading, first: Value, second: Value, flip: float) -> Value:
    shape = np.broadcast_shapes(first.shape, second.shape)
    first, second = (r.moved(v, np.broadcast_to(r.places(v), shape)) for v in (first, second))
    size = r.sizes[first.number]
    other = Identity(size) if flip > 0 else Scale(np.full(size, -1.0))
    return r.affine([(first, Identity(size)), (second, other)], None, shape)


@reads("Mul", "Div")
def multiply(r: Reading, n: Node) -> Value:
    constant = 0 if n.op == "Mul" and not isinstance(n.inputs[0], Value) else 1
    if isinstance(n.inputs[constant], Value):
        raise Refused("multiplies two values that both depend on the input")
    factor = np.asarray(n.needed(constant), np.float64)
    if n.op == "Mul":
        return _scaled(r, n.value(1 - constant), factor)
    if not factor.all():
        raise Refused("divides by zero")
    return _scaled(r, n.value(0), 1 / factor, roundings=1)


def _scaled(r: Reading, value: Value, factor: Array, roundings: int = 0) -> Value:
    shape = np.broadcast_shapes(value.shape, factor.shape)
    value = r.moved(value, np.broadcast_to(r.places(value), shape))
    return r.affine([(value, Scale(np.broadcast_to(factor, shape).ravel(), roundings))], None, shape)


@reads("Gemm")
def gemm(r: Reading, n: Node) -> Value:
    x, weight, alpha = n.value(), n.needed(1), float(n.attrs.get("alpha", 1.0))
    if n.attrs.get("transA", 0):
        x = r.moved(x, r.places(x).T)
    matrix = weight if n.attrs.get("transB", 0) else weight.T
    y = r.affine([(x, Dense(np.ascontiguousarray(matrix), x.shape[0]))], None, (x.shape[0], len(matrix)))
    if alpha != 1:
        y = _scaled(r, y, np.array(alpha))
    bias, beta = n.constant(2), float(n.attrs.get("beta", 1.0))
    if bias is None or beta == 0:
        return y
    if beta != 1:
        raise Refused("scales its bias, which would have to be rounded")
    return r.plus(y, bias)


@reads("MatMul")
def matmul(r: Reading, n: Node) -> Value:
    if isinstance(n.inputs[0], Value):
        return _times(r, n.value(0), n.needed(1))
    turned = _times(r, _turned(r, n.value(1)), np.swapaxes(n.needed(0), -1, -2))
    return _turned(r, turned)


def _turned(r: Reading, value: Value) -> Value:
    return r.moved(value, np.swapaxes(r.places(value), -1, -2))


def _times(r: Reading, x: Value, weight: Array) -> Value:
    if weight.ndim > 2:
        if weight.size != weight.shape[-1] * weight.shape[-2]:
            raise Refused("multiplies by several matrices")
        weight = weight.reshape(weight.shape[-2:])
    matrix = np.ascontiguousarray(np.atleast_2d(weight.T))
    if x.shape[-1] != matrix.shape[1]:
        raise Refused(f"multiplies {x.shape[-1]} columns by {matrix.shape[1]} rows")
    blocks = r.sizes[x.number] // matrix.shape[1]
    shape = (*x.shape[:-1], len(matrix)) if weight.ndim == 2 else x.shape[:-1]
    return r.affine([(x, Dense(matrix, blocks))], None, shape)


def _activation(function: Function) -> Operator:
    return lambda r, n: r.activation(n.value(), function)


OPERATORS |= {"Relu": _activation(RELU), "Abs": _activation(ABS), "Sigmoid": _activation(Sigmoid())}
OPERATORS |= {"Tanh": _activation(Tanh()), "Softplus": _activation(Softplus())}


@reads("LeakyRelu")
def leaky_relu(r: Reading, n: Node) -> Value:
    return r.activation(n.value(), Kinked(float(n.attrs.get("alpha", np.float32(0.01))), 1.0))


@reads("PRelu")
def prelu(r: Reading, n: Node) -> Value:
    slope = np.broadcast_to(n.needed(1), n.value().shape).astype(np.float64).ravel()
    return r.activation(n.value(), Kinked(slope, 1.0))


@reads("Elu")
def elu(r: Reading, n: Node) -> Value:
    alpha = float(n.attrs.get("alpha", 1.0))
    if not 0 < alpha <= 1:
        raise Refused("is not convex, its alpha being outside (0, 1]")
    return r.activation(n.value(), Elu(alpha))


@reads("Clip")
def clip(r: Reading, n: Node) -> Value:
    floor, ceiling = n.constant(1), n.constant(2)
    low = float(n.attrs.get("min", -np.inf) if floor is None else floor)
    high = float(n.attrs.get("max", np.inf) if ceiling is None else ceiling)
    if not low <= high:
        raise Refused("has its lower edge above its upper one")
    return r.activation(n.value(), Clip(low, high))
