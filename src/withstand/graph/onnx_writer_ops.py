"""How each canonical operation is written in ONNX operator set 17."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from withstand.graph.ir import Node

if TYPE_CHECKING:
    from withstand.graph.onnx_writer import Writing

Writer = Callable[["Writing", list[str], Node], str]
WRITERS: dict[str, Writer] = {}

SAME = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "matmul": "MatMul",
    "max": "Max",
    "min": "Min",
    "where": "Where",
    "neg": "Neg",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softplus": "Softplus",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "abs": "Abs",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "floor": "Floor",
    "round": "Round",
}


def writes(op: str) -> Callable[[Writer], Writer]:
    """Register a function that writes a canonical operation."""

    def add(function: Writer) -> Writer:
        WRITERS[op] = function
        return function

    return add


def _register_same(op: str, onnx_op: str) -> None:
    @writes(op)
    def same(w: "Writing", inputs: list[str], node: Node) -> str:
        return w.add(onnx_op, inputs)


for _op, _onnx_op in SAME.items():
    _register_same(_op, _onnx_op)


@writes("linear")
def linear(w: "Writing", inputs: list[str], node: Node) -> str:
    if w.rank(node.inputs[0]) == 2:
        return w.add("Gemm", inputs, transB=1)
    product = w.add("MatMul", [inputs[0], w.array(w.constant(node.inputs[1]).T)])
    return product if len(inputs) == 2 else w.add("Add", [product, inputs[2]])


def _convolution(w: "Writing", op: str, inputs: list[str], node: Node, **extra: list[int]) -> str:
    a = node.attrs
    pads = [*a["padding"], *a["padding"]]
    shape = {"strides": list(a["stride"]), "pads": pads, "dilations": list(a["dilation"])}
    return w.add(op, inputs, group=a.get("groups", 1), **shape, **extra)


@writes("conv")
def conv(w: "Writing", inputs: list[str], node: Node) -> str:
    return _convolution(w, "Conv", inputs, node)


@writes("conv_transpose")
def conv_transpose(w: "Writing", inputs: list[str], node: Node) -> str:
    return _convolution(w, "ConvTranspose", inputs, node, output_padding=list(node.attrs["output_padding"]))


@writes("silu")
def silu(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Mul", [inputs[0], w.add("Sigmoid", inputs)])


@writes("leaky_relu")
def leaky_relu(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("LeakyRelu", inputs, alpha=float(node.attrs["slope"]))


@writes("elu")
def elu(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Elu", inputs, alpha=float(node.attrs["alpha"]))


@writes("gelu")
def gelu(w: "Writing", inputs: list[str], node: Node) -> str:
    x = inputs[0]
    if node.attrs.get("approximate", "none") == "tanh":
        cube = w.add("Mul", [w.number(0.044715), w.add("Mul", [x, w.add("Mul", [x, x])])])
        inner = w.add("Mul", [w.number(math.sqrt(2 / math.pi)), w.add("Add", [x, cube])])
        curve = w.add("Tanh", [inner])
    else:
        curve = w.add("Erf", [w.add("Mul", [x, w.number(1 / math.sqrt(2))])])
    half = w.add("Mul", [x, w.number(0.5)])
    return w.add("Mul", [half, w.add("Add", [curve, w.number(1.0)])])


@writes("pow")
def power(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Pow", [inputs[0], w.number(node.attrs["exponent"])])


@writes("clip")
def clip(w: "Writing", inputs: list[str], node: Node) -> str:
    low, high = node.attrs.get("low", -math.inf), node.attrs.get("high", math.inf)
    limits = ["" if math.isinf(limit) else w.number(limit) for limit in (low, high)]
    return w.add("Clip", [inputs[0], *limits])


@writes("max_pool")
def max_pool(w: "Writing", inputs: list[str], node: Node) -> str:
    a = node.attrs
    window = {"kernel_shape": list(a["kernel"]), "strides": list(a["stride"]), "pads": [*a["padding"], *a["padding"]]}
    return w.add("MaxPool", inputs, dilations=list(a["dilation"]), ceil_mode=int(a.get("ceil_mode", False)), **window)


@writes("avg_pool")
def avg_pool(w: "Writing", inputs: list[str], node: Node) -> str:
    a = node.attrs
    window = {"kernel_shape": list(a["kernel"]), "strides": list(a["stride"]), "pads": [*a["padding"], *a["padding"]]}
    modes = {"ceil_mode": int(a.get("ceil_mode", False)), "count_include_pad": int(a.get("count_include_pad", True))}
    return w.add("AveragePool", inputs, **window, **modes)


@writes("mean")
def mean(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("ReduceMean", inputs, axes=list(node.attrs["dims"]), keepdims=int(node.attrs["keepdim"]))


@writes("sum")
def sum_(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("ReduceSum", [inputs[0], w.ints(node.attrs["dims"])], keepdims=int(node.attrs["keepdim"]))


@writes("softmax")
def softmax(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Softmax", inputs, axis=node.attrs["dim"])


@writes("log_softmax")
def log_softmax(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("LogSoftmax", inputs, axis=node.attrs["dim"])


@writes("reshape")
def reshape(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Reshape", [inputs[0], w.ints([-1, *node.attrs["shape"]])])


@writes("transpose")
def transpose(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Transpose", inputs, perm=list(node.attrs["perm"]))


@writes("concat")
def concat(w: "Writing", inputs: list[str], node: Node) -> str:
    """A constant part is repeated for every sample."""
    batch = w.add("Shape", [next(i for i, n in zip(inputs, node.inputs) if n in w.shapes)], start=0, end=1)
    parts = []
    for given, name in zip(inputs, node.inputs):
        if name not in w.shapes:
            full = w.add("Concat", [batch, w.ints(w.graph.constant(name).shape[1:])], axis=0)
            given = w.add("Expand", [given, full])
        parts.append(given)
    return w.add("Concat", parts, axis=node.attrs["dim"])


@writes("slice")
def slice_(w: "Writing", inputs: list[str], node: Node) -> str:
    a = node.attrs
    span = [w.ints([v]) for v in (a["start"], a["stop"], a["dim"], a.get("step", 1))]
    return w.add("Slice", [inputs[0], *span])


@writes("gather")
def gather(w: "Writing", inputs: list[str], node: Node) -> str:
    return w.add("Gather", inputs, axis=node.attrs["dim"])


@writes("pad")
def pad(w: "Writing", inputs: list[str], node: Node) -> str:
    flat, rank = node.attrs["pads"], w.rank(node.inputs[0])
    before, after = [0] * rank, [0] * rank
    for position in range(len(flat) // 2):
        before[rank - 1 - position], after[rank - 1 - position] = flat[2 * position], flat[2 * position + 1]
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[node.attrs.get("mode", "constant")]
    fill = [w.number(node.attrs.get("value", 0.0))] if mode == "constant" else []
    return w.add("Pad", [inputs[0], w.ints([*before, *after]), *fill], mode=mode)


@writes("expand")
def expand(w: "Writing", inputs: list[str], node: Node) -> str:
    shape, old = node.attrs["shape"], w.shapes[node.inputs[0]][1:]
    x = inputs[0]
    if len(old) < len(shape):
        x = w.add("Reshape", [x, w.ints([-1, *(1,) * (len(shape) - len(old)), *old])])
    return w.add("Expand", [x, w.ints([1, *shape])])
