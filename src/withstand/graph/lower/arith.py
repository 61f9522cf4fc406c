"""Element-wise operations of one or several broadcast arrays."""

import math

import torch
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.ops import OPS


def align(b: Builder, *arrays: Array) -> tuple[list[Array], bool]:
    """The arrays in one form that broadcasts as their shapes do, and whether the batch is folded away in it."""
    rank = max(len(a.shape) for a in arrays)
    if all(_keeps_batch(a, rank) for a in arrays):
        return [_stripped(a, rank) if isinstance(a, Tensor) else b.batched(a) for a in arrays], False
    return [a if isinstance(a, Tensor) else _raised(b, a, rank) for a in arrays], True


def _keeps_batch(array: Array, rank: int) -> bool:
    if isinstance(array, Tensor):
        return array.dim() < rank or array.shape[:1] == (1,)
    return len(array.shape) == rank and array.shape[:1] == (1,)


def _stripped(constant: Tensor, rank: int) -> Tensor:
    return constant[0] if constant.dim() == rank else constant


def _raised(b: Builder, value: Value, rank: int) -> Value:
    if len(value.shape) == rank:
        return b.single(value)
    return b.emit("reshape", value, folded=True, shape=(1,) * (rank - len(value.shape)) + value.shape)


def unary(b: Builder, op: str, x: Array, **attrs: object) -> Array:
    """A canonical one-input operation."""
    if isinstance(x, Tensor):
        return OPS[op].run(x, **attrs)
    return b.emit(op, x, folded=x.folded, **attrs)


def binary(b: Builder, op: str, x: Array, y: Array) -> Array:
    """A canonical two-input operation with broadcasting; a division by a value becomes a product."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return OPS[op].run(x, y)
    if op == "div" and isinstance(y, Value):
        return binary(b, "mul", x, unary(b, "reciprocal", y))
    (x, y), folded = align(b, x, y)
    return b.emit(op, x, y, folded=folded)


def chain(b: Builder, op: str, arrays: list[Array]) -> Array:
    """One two-input operation over any number of arrays, left to right."""
    result = arrays[0]
    for array in arrays[1:]:
        result = binary(b, op, result, array)
    return result


def where(b: Builder, mask: Array, x: Array, y: Array) -> Array:
    """x where a constant mask is true, else y."""
    if isinstance(mask, Value):
        raise Unsupported("chooses between values by a condition that depends on the input")
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return torch.where(mask.bool(), x, y)
    (mask, x, y), folded = align(b, mask.bool(), x, y)
    return b.emit("where", mask, x, y, folded=folded)


def power(b: Builder, x: Array, exponent: Array) -> Array:
    """x to a constant power, the same for all elements."""
    if isinstance(x, Tensor) and isinstance(exponent, Tensor):
        return torch.pow(x, exponent)
    if isinstance(x, Tensor) and bool((x > 0).all()):
        return unary(b, "exp", binary(b, "mul", exponent, torch.log(x.double())))
    if not isinstance(exponent, Tensor) or exponent.unique().numel() != 1:
        raise Unsupported("raises to a power that is not one constant number")
    return unary(b, "pow", x, exponent=float(exponent.reshape(-1)[0]))


def clip(b: Builder, x: Array, low: float, high: float) -> Array:
    """x limited to [low, high]; from below at 0 alone it is a ReLU."""
    if low == 0.0 and high == float("inf"):
        return unary(b, "relu", x)
    return unary(b, "clip", x, low=low, high=high)


def leaky_relu(b: Builder, x: Array, slope: Array | float) -> Array:
    """x where positive, else slope * x, for any slope or constant array of slopes."""
    if isinstance(slope, Tensor) and slope.numel() == 1:
        slope = float(slope)
    if isinstance(slope, float) and 0.0 <= slope <= 1.0:
        return unary(b, "leaky_relu", x, slope=slope)
    scale = number(slope) if isinstance(slope, int | float) else slope
    below = unary(b, "relu", unary(b, "neg", x))
    return binary(b, "sub", unary(b, "relu", x), binary(b, "mul", below, scale))


def elu(b: Builder, x: Array, alpha: float) -> Array:
    """x where positive, else alpha * (exp(x) - 1), for any alpha."""
    if alpha >= 0:
        return unary(b, "elu", x, alpha=alpha)
    below = binary(b, "sub", unary(b, "exp", clip(b, x, -math.inf, 0.0)), number(1.0))
    return binary(b, "add", unary(b, "relu", x), binary(b, "mul", below, number(alpha)))


def selu(b: Builder, x: Array, alpha: float, scale: float) -> Array:
    """scale * elu(x; alpha)."""
    return binary(b, "mul", elu(b, x, alpha), number(scale))


def hard_sigmoid(b: Builder, x: Array, alpha: float, beta: float) -> Array:
    """alpha * x + beta limited to [0, 1]."""
    line = binary(b, "add", binary(b, "mul", x, number(alpha)), number(beta))
    return clip(b, line, 0.0, 1.0)


def mish(b: Builder, x: Array) -> Array:
    """x * tanh(softplus(x))."""
    return binary(b, "mul", x, unary(b, "tanh", unary(b, "softplus", x)))


def softsign(b: Builder, x: Array) -> Array:
    """x / (1 + |x|)."""
    return binary(b, "div", x, binary(b, "add", unary(b, "abs", x), number(1.0)))
