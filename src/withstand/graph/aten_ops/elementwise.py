"""Element-wise ATen operations."""

import math
from typing import Any

import torch

from withstand.graph.aten_ops import array, captures
from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.lower import arith

EXACT_SOFTPLUS = {torch.float32: 16, torch.float64: 36}
"""From here on log(1 + exp(x)) is x, to a rounding of the type."""

UNARY = "neg relu sigmoid tanh exp log sqrt reciprocal abs sign sin cos silu floor erf"


def _register_unary(op: str) -> None:
    @captures(op)
    def unary(b: Builder, x: Array) -> Array:
        return arith.unary(b, op, x)


for _op in UNARY.split():
    _register_unary(_op)


def _scaled(b: Builder, x: Array, alpha: float) -> Array:
    return x if alpha == 1 else arith.binary(b, "mul", x, number(alpha))


@captures("add")
def add(b: Builder, x: Any, y: Any, alpha: float = 1) -> Array:
    return arith.binary(b, "add", array(x), _scaled(b, array(y), alpha))


@captures("sub")
def sub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Array:
    return arith.binary(b, "sub", array(x), _scaled(b, array(y), alpha))


@captures("rsub")
def rsub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Array:
    return arith.binary(b, "sub", array(y), _scaled(b, array(x), alpha))


@captures("mul")
def mul(b: Builder, x: Any, y: Any) -> Array:
    return arith.binary(b, "mul", array(x), array(y))


@captures("div")
def div(b: Builder, x: Any, y: Any, rounding_mode: str | None = None) -> Array:
    if rounding_mode == "trunc":
        raise Unsupported("divides and cuts off the fraction")
    quotient = arith.binary(b, "div", array(x), array(y))
    return arith.unary(b, "floor", quotient) if rounding_mode == "floor" else quotient


@captures("maximum")
def maximum(b: Builder, x: Array, y: Array) -> Array:
    return arith.binary(b, "max", x, y)


@captures("minimum")
def minimum(b: Builder, x: Array, y: Array) -> Array:
    return arith.binary(b, "min", x, y)


@captures("pow")
def power(b: Builder, x: Any, exponent: Any) -> Array:
    return arith.power(b, array(x), array(exponent))


@captures("square")
def square(b: Builder, x: Array) -> Array:
    return arith.power(b, x, number(2.0))


@captures("rsqrt")
def rsqrt(b: Builder, x: Array) -> Array:
    return arith.unary(b, "reciprocal", arith.unary(b, "sqrt", x))


@captures("log1p")
def log1p(b: Builder, x: Array) -> Array:
    return arith.unary(b, "log", add(b, x, 1.0))


@captures("expm1")
def expm1(b: Builder, x: Array) -> Array:
    return sub(b, arith.unary(b, "exp", x), 1.0)


@captures("ceil")
def ceil(b: Builder, x: Array) -> Array:
    return arith.unary(b, "neg", arith.unary(b, "floor", arith.unary(b, "neg", x)))


@captures("round")
def round_(b: Builder, x: Array, decimals: int = 0) -> Array:
    if decimals:
        raise Unsupported("rounds to decimals")
    return arith.unary(b, "round", x)


@captures("softplus")
def softplus(b: Builder, x: Array, beta: float = 1, threshold: float = 20) -> Array:
    if threshold < EXACT_SOFTPLUS[b.dtype]:
        raise Unsupported(f"is a softplus cut off at {threshold:g}, where it jumps")
    return _scaled(b, arith.unary(b, "softplus", _scaled(b, x, beta)), 1 / beta)


@captures("log_sigmoid")
def log_sigmoid(b: Builder, x: Array) -> Array:
    return arith.unary(b, "neg", arith.unary(b, "softplus", arith.unary(b, "neg", x)))


@captures("leaky_relu")
def leaky_relu(b: Builder, x: Array, slope: float = 0.01) -> Array:
    return arith.leaky_relu(b, x, float(slope))


@captures("prelu", "_prelu_kernel")
def prelu(b: Builder, x: Array, weight: torch.Tensor) -> Array:
    """One slope, or one a channel."""
    channels = weight.numel() > 1 and weight.dim() == 1 and len(x.shape) > 1
    return arith.leaky_relu(b, x, weight.reshape(-1, *(1,) * (len(x.shape) - 2)) if channels else weight)


@captures("elu")
def elu(b: Builder, x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    return _scaled(b, arith.elu(b, _scaled(b, x, input_scale), float(alpha)), scale)


@captures("selu")
def selu(b: Builder, x: Array) -> Array:
    return arith.selu(b, x, 1.6732632423543772, 1.0507009873554805)


@captures("celu")
def celu(b: Builder, x: Array, alpha: float = 1.0) -> Array:
    return arith.selu(b, div(b, x, alpha), 1.0, float(alpha))


@captures("gelu")
def gelu(b: Builder, x: Array, approximate: str = "none") -> Array:
    return arith.unary(b, "gelu", x, approximate=approximate)


@captures("mish")
def mish(b: Builder, x: Array) -> Array:
    return arith.mish(b, x)


@captures("softsign")
def softsign(b: Builder, x: Array) -> Array:
    return arith.softsign(b, x)


@captures("hardsigmoid")
def hardsigmoid(b: Builder, x: Array) -> Array:
    return arith.hard_sigmoid(b, x, 1 / 6, 0.5)


@captures("hardswish")
def hardswish(b: Builder, x: Array) -> Array:
    return mul(b, x, hardsigmoid(b, x))


@captures("clamp", "clip")
def clamp(b: Builder, x: Array, low: Any = None, high: Any = None) -> Array:
    if isinstance(low, Value | torch.Tensor) or isinstance(high, Value | torch.Tensor):
        x = x if low is None else arith.binary(b, "max", x, array(low))
        return x if high is None else arith.binary(b, "min", x, array(high))
    return arith.clip(b, x, -math.inf if low is None else float(low), math.inf if high is None else float(high))


@captures("hardtanh")
def hardtanh(b: Builder, x: Array, low: float = -1, high: float = 1) -> Array:
    return clamp(b, x, low, high)


@captures("relu6")
def relu6(b: Builder, x: Array) -> Array:
    return clamp(b, x, 0, 6)


@captures("clamp_min")
def clamp_min(b: Builder, x: Array, low: Any) -> Array:
    return clamp(b, x, low)


@captures("clamp_max")
def clamp_max(b: Builder, x: Array, high: Any) -> Array:
    return clamp(b, x, None, high)


@captures("where")
def where(b: Builder, mask: Array, x: Any, y: Any) -> Array:
    return arith.where(b, mask, array(x), array(y))


@captures("masked_fill")
def masked_fill(b: Builder, x: Array, mask: Array, value: Any) -> Array:
    return arith.where(b, mask, array(value), x)


@captures("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "positive")
def same(b: Builder, x: Array, **_: Any) -> Array:
    return x


@captures("_to_copy", "to", "type_as")
def cast(b: Builder, x: Array, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Array:
    if dtype is not None and not dtype.is_floating_point:
        raise Unsupported("casts a value that depends on the input to a type that is not a float")
    return x


@captures("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(b: Builder, x: Array, p: float, train: bool) -> Array:
    if train:
        raise Unsupported("draws random numbers")
    return x


@captures("zeros_like", "new_zeros")
def zeros(b: Builder, x: Value, shape: list[int] | None = None, **_: Any) -> torch.Tensor:
    return torch.zeros(x.shape if shape is None else shape, dtype=b.dtype)


@captures("ones_like", "new_ones")
def ones(b: Builder, x: Value, shape: list[int] | None = None, **_: Any) -> torch.Tensor:
    return torch.ones(x.shape if shape is None else shape, dtype=b.dtype)


@captures("full_like")
def full_like(b: Builder, x: Value, value: float, **_: Any) -> torch.Tensor:
    return torch.full(x.shape, float(value), dtype=b.dtype)


@captures("new_full")
def new_full(b: Builder, x: Value, shape: list[int], value: float, **_: Any) -> torch.Tensor:
    return torch.full(shape, float(value), dtype=b.dtype)
