"""Constants that an ONNX file computes, such as shapes: run by onnx's own definition, within limits of size."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from withstand.graph.builder import Unsupported
from withstand.graph.limits import MOST, MOST_STEPS, MOST_WORK, too_large

if TYPE_CHECKING:
    import onnx

SMALL = 1024
"""Numbers of an input up to which its values take part in finding the sizes of outputs."""

KEEPING = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Constant",
        "Cos",
        "Div",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sqrt",
        "Sub",
        "Tanh",
        "Where",
        "Xor",
    ]
)
"""Operators whose result is no larger than their inputs broadcast: all that a loop may hold."""

FOLLOWING = frozenset(("ArgMax", "ArgMin", "Compress", "NonZero", "Shape", "Size", "Unique"))
"""Operators whose result grows with their inputs alone, though its size is known only by running them."""


def fold(node: "onnx.NodeProto", feeds: Mapping[str, np.ndarray], opsets: Sequence) -> list[np.ndarray]:
    """The outputs of a node whose inputs are all known.

    Raises Unsupported where they would be too large or take too long.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    infos = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", infos, outputs), opset_imports=list(opsets)
    )
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        _check_loop(node, feeds)
    else:
        _check_sizes(node, feeds, opsets)
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, dict(feeds))]


def _check_loop(node: "onnx.NodeProto", feeds: Mapping[str, np.ndarray]) -> None:
    """A loop or a branch: few rounds of operators that make nothing larger."""
    if node.op_type not in ("If", "Loop"):
        raise Unsupported("holds a part that runs again and again")
    rounds = 1
    if node.op_type == "Loop":
        count = feeds.get(node.input[0]) if node.input else None
        if count is None or count.size != 1 or not 0 <= int(count.reshape(-1)[0]) <= MOST_STEPS:
            told = "no end" if count is None or count.size != 1 else f"{int(count.reshape(-1)[0])} rounds"
            raise Unsupported(f"has {told}, more than the {MOST_STEPS} that are run of a constant")
        rounds = int(count.reshape(-1)[0])
    total = sum(value.size for value in feeds.values())
    for attribute in node.attribute:
        for inner in attribute.g.node:
            if inner.op_type not in KEEPING or inner.domain not in ("", "ai.onnx"):
                raise Unsupported(f"runs {inner.op_type} in a part of its own")
            held = [one.t.dims for one in inner.attribute if one.HasField("t")]
            total += sum(int(np.prod([float(size) for size in dims])) for dims in held)
        total += sum(int(np.prod([float(size) for size in tensor.dims])) for tensor in attribute.g.initializer)
    if total * max(1, rounds) > MOST:
        raise Unsupported(f"makes {rounds} times {total} numbers")


def _check_sizes(node: "onnx.NodeProto", feeds: Mapping[str, np.ndarray], opsets: Sequence) -> None:
    """The sizes of outputs by the shapes of inputs, and by their values where these are few."""
    import onnx
    from onnx import numpy_helper

    small = {name: value for name, value in feeds.items() if value.size <= SMALL}
    kinds = {
        name: onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    }
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    held = [numpy_helper.from_array(value, name) for name, value in small.items()]
    graph = onnx.helper.make_graph([node], "sizes", list(kinds.values()), outputs, held)
    model = onnx.helper.make_model(graph, opset_imports=list(opsets), ir_version=4)
    found = onnx.shape_inference.infer_shapes(model).graph.output
    for output in found:
        axes = output.type.tensor_type.shape.dim
        known = output.type.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes)
        why = too_large([axis.dim_value for axis in axes]) if known else None
        if why is not None:
            raise Unsupported(why)
        if not known and node.op_type not in FOLLOWING | KEEPING:
            raise Unsupported("makes a constant whose size is not to be seen before it is made")
    _check_work(node, feeds)


def _check_work(node: "onnx.NodeProto", feeds: Mapping[str, np.ndarray]) -> None:
    sizes = [feeds[name].size for name in node.input if name in feeds]
    if node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum") and len(sizes) > 1:
        work = float(sizes[0]) * float(sizes[1])
        inner = max(1, feeds[node.input[0]].shape[-1] if feeds[node.input[0]].ndim else 1)
        if work / (inner if node.op_type in ("MatMul", "Gemm") else 1) > MOST_WORK:
            raise Unsupported(f"computes a constant from {sizes[0]} and {sizes[1]} numbers, which takes too long")
