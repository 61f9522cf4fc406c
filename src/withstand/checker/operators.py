"""ONNX operators of arithmetic as steps of the checker's networks: one function an operator."""

import numpy as np

from withstand.checker.functions import ABS, RELU, Clip, Function, Kinked
from withstand.checker.maps import Dense, Identity, Scale
from withstand.checker.node import KINDS
from withstand.checker.reading import OPERATORS, Array, Node, Operator, Reading, Refused, Value, reads
from withstand.checker.smooth import Elu, Sigmoid, Softplus, Tanh


@reads("Identity")
def same(r: Reading, n: Node) -> Value:
    return n.value()


@reads("Cast")
def cast(r: Reading, n: Node) -> Value:
    """To the same type or a wider one, which is exact."""
    if n.attr("to") not in KINDS:
        raise Refused("turns numbers into another kind than float32 or float64")
    if n.given_kinds[0] != KINDS[n.attr("to")] == KINDS[1]:
        raise Refused("rounds numbers to float32, which is no function of real numbers")
    n.kinds = [KINDS[n.attr("to")]]
    return n.value()


@reads("Dropout")
def drop_out(r: Reading, n: Node) -> Value:
    """Where nothing is trained it drops nothing, whatever its ratio and seed."""
    n.number(1, "ratio")
    n.attr("seed")
    training = n.constant(2)
    if training is not None and training.any():
        raise Refused("is exported in training mode")
    return n.value()


@reads("Neg")
def negate(r: Reading, n: Node) -> Value:
    return _scaled(r, n.value(), np.array(-1.0))


@reads("Add", "Sub", "Sum")
def add(r: Reading, n: Node) -> Value:
    if n.op == "Sum" and n.version < 8 and len({i.shape for i in n.inputs if i is not None}) > 1:
        raise Refused("adds up different shapes, which this operator set does not")
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
    constant = 0 if n.op == "Mul" and not isinstance(n.given(0), Value) else 1
    if isinstance(n.given(constant), Value):
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
    x, weight, alpha = n.value(), n.needed(1), float(n.attr("alpha"))
    if len(x.shape) != 2 or weight.ndim != 2:
        raise Refused(f"multiplies shapes {x.shape} and {weight.shape}, which are no matrices")
    if n.attr("transA"):
        x = r.moved(x, r.places(x).T)
    matrix = weight if n.attr("transB") else weight.T
    y = _rows(r, x, matrix, (x.shape[0], len(matrix)))
    if alpha != 1:
        y = _scaled(r, y, np.array(alpha))
    bias, beta = n.constant(2), float(n.attr("beta"))
    if bias is None or beta == 0:
        return y
    if beta != 1:
        raise Refused("scales its bias, which would have to be rounded")
    return r.plus(y, np.broadcast_to(bias, y.shape))


@reads("MatMul")
def matmul(r: Reading, n: Node) -> Value:
    if isinstance(n.given(0), Value):
        return _times(r, n.value(0), n.needed(1))
    left, right = n.needed(0), n.value(1)
    if left.ndim < 2:
        raise Refused("multiplies a list by a value")
    if len(right.shape) == 1:
        column = _times(r, r.moved(right, r.places(right)[None]), np.swapaxes(left, -1, -2))
        return r.moved(column, r.places(column)[..., 0, :])
    return _turned(r, _times(r, _turned(r, right), np.swapaxes(left, -1, -2)))


def _turned(r: Reading, value: Value) -> Value:
    return r.moved(value, np.swapaxes(r.places(value), -1, -2))


def _times(r: Reading, x: Value, weight: Array) -> Value:
    """A value times one matrix, or list, that may have axes of size 1 before its own."""
    if weight.ndim < 1 or not x.shape:
        raise Refused("multiplies a number, where a matrix is needed")
    if weight.ndim > 2 and weight.size != weight.shape[-1] * weight.shape[-2]:
        raise Refused("multiplies by several matrices")
    matrix = np.atleast_2d(weight.reshape(weight.shape[-2:]).T)
    tail = matrix.shape[:1] if weight.ndim > 1 else ()
    ahead = (1,) * max(0, weight.ndim - max(2, len(x.shape)))
    return _rows(r, x, matrix, (*ahead, *x.shape[:-1], *tail))


def _rows(r: Reading, x: Value, matrix: Array, shape: tuple[int, ...]) -> Value:
    """Each row of a value times the transpose of a matrix [out, in]."""
    if x.shape[-1] != matrix.shape[1]:
        raise Refused(f"multiplies {x.shape[-1]} columns by {matrix.shape[1]} rows")
    blocks = r.sizes[x.number] // matrix.shape[1]
    return r.affine([(x, Dense(np.ascontiguousarray(matrix, np.float64), blocks))], None, shape)


def _activation(function: Function) -> Operator:
    return lambda r, n: r.activation(n.value(), function)


OPERATORS |= {"Relu": _activation(RELU), "Abs": _activation(ABS), "Sigmoid": _activation(Sigmoid())}
OPERATORS |= {"Tanh": _activation(Tanh()), "Softplus": _activation(Softplus())}


@reads("LeakyRelu")
def leaky_relu(r: Reading, n: Node) -> Value:
    return r.activation(n.value(), Kinked(float(n.attr("alpha")), 1.0))


@reads("PRelu")
def prelu(r: Reading, n: Node) -> Value:
    slope = np.broadcast_to(n.needed(1), n.value().shape).astype(np.float64).ravel()
    return r.activation(n.value(), Kinked(slope, 1.0))


@reads("Elu")
def elu(r: Reading, n: Node) -> Value:
    alpha = float(n.attr("alpha"))
    if not 0 < alpha <= 1:
        raise Refused("is not convex, its alpha being outside (0, 1]")
    return r.activation(n.value(), Elu(alpha))


@reads("Clip")
def clip(r: Reading, n: Node) -> Value:
    low, high = n.number(1, "min"), n.number(2, "max")
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    if not low <= high:
        raise Refused("has its lower edge above its upper one")
    return r.activation(n.value(), Clip(low, high))
