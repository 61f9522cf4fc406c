"""Element-wise ONNX operators."""

import math

import torch

from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.lower import arith
from withstand.graph.onnx_ops import Call, lowers

UNARY = {
    "Neg": "neg",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Abs": "abs",
    "Sign": "sign",
    "Sin": "sin",
    "Cos": "cos",
    "Erf": "erf",
    "Floor": "floor",
    "Round": "round",
}
BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
TYPES = {torch.float32: 1, torch.float16: 10, torch.float64: 11, torch.bfloat16: 16}
"""ONNX's numbers of the float types."""
CHAIN = {"Max": "max", "Min": "min", "Sum": "add"}


@lowers(*UNARY)
def unary(b: Builder, c: Call) -> Array:
    return arith.unary(b, UNARY[c.op], c.array(0))


@lowers(*BINARY)
def binary(b: Builder, c: Call) -> Array:
    return arith.binary(b, BINARY[c.op], c.array(0), c.array(1))


@lowers(*CHAIN)
def chain(b: Builder, c: Call) -> Array:
    return arith.chain(b, CHAIN[c.op], _same(c))


def _same(c: Call) -> list[Array]:
    """The inputs, which before operator set 8 have one shape."""
    arrays = [a for a in c.inputs if a is not None]
    if c.version < 8 and len({tuple(a.shape) for a in arrays}) > 1:
        raise Unsupported("takes different shapes, which this operator set does not")
    return arrays


@lowers("Mean")
def mean(b: Builder, c: Call) -> Array:
    arrays = _same(c)
    return arith.binary(b, "mul", arith.chain(b, "add", arrays), number(1 / len(arrays)))


@lowers("Ceil")
def ceil(b: Builder, c: Call) -> Array:
    return arith.unary(b, "neg", arith.unary(b, "floor", arith.unary(b, "neg", c.array(0))))


@lowers("LeakyRelu")
def leaky_relu(b: Builder, c: Call) -> Array:
    return arith.leaky_relu(b, c.array(0), float(c.attrs["alpha"]))


@lowers("PRelu")
def prelu(b: Builder, c: Call) -> Array:
    return arith.leaky_relu(b, c.array(0), c.array(1))


@lowers("Elu")
def elu(b: Builder, c: Call) -> Array:
    return arith.elu(b, c.array(0), float(c.attrs["alpha"]))


@lowers("Selu")
def selu(b: Builder, c: Call) -> Array:
    return arith.selu(b, c.array(0), float(c.attrs["alpha"]), float(c.attrs["gamma"]))


@lowers("Celu")
def celu(b: Builder, c: Call) -> Array:
    alpha = float(c.attrs["alpha"])
    if alpha <= 0:
        raise Unsupported("has an alpha that is not above 0")
    scaled = arith.binary(b, "div", c.array(0), number(alpha))
    return arith.selu(b, scaled, 1.0, alpha)


@lowers("HardSigmoid")
def hard_sigmoid(b: Builder, c: Call) -> Array:
    return arith.hard_sigmoid(b, c.array(0), float(c.attrs["alpha"]), float(c.attrs["beta"]))


@lowers("HardSwish")
def hard_swish(b: Builder, c: Call) -> Array:
    return arith.binary(b, "mul", c.array(0), arith.hard_sigmoid(b, c.array(0), 1 / 6, 0.5))


@lowers("Mish")
def mish(b: Builder, c: Call) -> Array:
    return arith.mish(b, c.array(0))


@lowers("Softsign")
def softsign(b: Builder, c: Call) -> Array:
    return arith.softsign(b, c.array(0))


@lowers("Gelu")
def gelu(b: Builder, c: Call) -> Array:
    return arith.unary(b, "gelu", c.array(0), approximate=str(c.attrs["approximate"]))


@lowers("Pow")
def power(b: Builder, c: Call) -> Array:
    return arith.power(b, c.array(0), c.array(1))


@lowers("Clip")
def clip(b: Builder, c: Call) -> Array:
    low, high = c.optional(1), c.optional(2)
    if isinstance(low, Value) or isinstance(high, Value):
        x = c.array(0) if low is None else arith.binary(b, "max", c.array(0), low)
        return x if high is None else arith.binary(b, "min", x, high)
    floor = c.attrs.get("min", -math.inf) if low is None else low
    ceiling = c.attrs.get("max", math.inf) if high is None else high
    if float(floor) > float(ceiling):
        if c.version < 11:
            raise Unsupported("has its lower edge above its upper one")
        floor = ceiling
    return arith.clip(b, c.array(0), float(floor), float(ceiling))


@lowers("Where")
def where(b: Builder, c: Call) -> Array:
    return arith.where(b, c.array(0), c.array(1), c.array(2))


@lowers("Identity")
def identity(b: Builder, c: Call) -> Array:
    return c.array(0)


@lowers("Dropout")
def dropout(b: Builder, c: Call) -> Array:
    """Where nothing is trained it drops nothing, whatever its ratio and seed."""
    c.constant(1)
    c.attrs.get("ratio")
    c.attrs.get("seed")
    training = c.constant(2)
    if training is not None and bool(training.any()):
        raise Unsupported("is exported in training mode, so export the model after model.eval()")
    if c.outputs > 1:
        raise Unsupported("is asked for its second output, the mask")
    return c.array(0)


@lowers("Cast", "CastLike")
def cast(b: Builder, c: Call) -> Array:
    """Only what keeps a network in one type: a rounding in its middle is no step of the graph."""
    like = c.optional(1)
    to = c.attrs["to"] if c.op == "Cast" else TYPES.get(like.dtype, 0) if isinstance(like, torch.Tensor) else None
    if to not in (None, 1, 10, 11, 16):
        raise Unsupported("casts a value that depends on the input to a type that is not a float")
    if to is not None and (to == TYPES[torch.float64]) != (b.dtype == torch.float64):
        own, other = ("float64", "a smaller type") if b.dtype == torch.float64 else ("a smaller type", "float64")
        raise Unsupported(f"casts from {own} to {other} within the network: export it in one float type throughout")
    return c.array(0)
