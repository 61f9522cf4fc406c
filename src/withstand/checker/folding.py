"""What a network computes from constants alone: shapes mostly. Only what is exact is computed."""

import math
from typing import TYPE_CHECKING

import numpy as np

from withstand.checker.node import Node, Refused, Value, sized
from withstand.checker.onnx_file import array_of

if TYPE_CHECKING:
    import onnx

Array = np.ndarray

MOVES = {"Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that only move the numbers of their first input, as those of values are moved."""

EXACT = {"Cast", "Concat", "ConstantOfShape", "Equal", "Identity", "Tile", "Where"}
"""Other operators that do not round: of constants they are constants."""

WHOLE = {"Add", "Sub", "Mul", "Div", "Mod", "Neg", "Min", "Max", "Range", "ReduceProd"}
"""Operators of whole numbers, such as shapes, that are exact too."""


def folded(node: Node) -> list[Array] | None:
    """The results of a node as constants, if they are constant and exact; None if they depend on the input."""
    if node.op == "Constant":
        return [_stated(node)]
    if node.op == "Shape":
        (held,) = node.inputs
        shape = () if held is None else held.shape
        return [np.array(shape[node.attr("start", 0) : node.attr("end")], np.int64)]
    if node.depends:
        return None
    if node.op in MOVES:
        return _moved(node)
    feeds = {name: i for name, i in zip(node.proto.input, node.inputs, strict=True) if isinstance(i, np.ndarray)}
    whole = node.op in WHOLE and all(a.dtype.kind in "biu" for a in feeds.values())
    if node.op not in EXACT and not whole:
        raise Refused("computes a constant, which would have to be rounded; fold constants when exporting")
    sized([_declared(node.op, list(feeds.values()))])
    if node.op == "Cast" and not all(_holds(node.attr("to"), array) for array in feeds.values()):
        raise Refused("turns a constant into whole numbers that cannot hold it, which machines do differently")
    return _run(node.everything(), node.version, feeds)


def _holds(to: int, array: Array) -> bool:
    """Whether floats become whole numbers of a type by leaving out their digits behind the point."""
    from onnx import helper

    kind = helper.tensor_dtype_to_np_dtype(to)
    if array.dtype.kind in "biu" or kind.kind not in "iu":
        return True
    limits, wide = np.iinfo(kind), array.astype(np.float64)
    return bool(((wide > limits.min - 1.0) & (wide < limits.max + 1.0)).all())


def _declared(op: str, given: list[Array]) -> int:
    """How many numbers an operator makes of constants."""
    if op == "ConstantOfShape":
        return math.prod(int(i) for i in given[0].ravel())
    if op == "Tile":
        return given[0].size * math.prod(int(i) for i in given[1].ravel())
    if op == "Range":
        start, limit, step = (int(i) for i in given)
        return max(0, -(-(limit - start) // step)) if step else 0
    if op == "ReduceProd":
        return given[0].size
    if op == "Concat":
        return sum(i.size for i in given)
    try:
        return math.prod(np.broadcast_shapes(*(i.shape for i in given)))
    except ValueError as error:
        raise Refused("has inputs whose shapes do not fit") from error


def _stated(node: Node) -> Array:
    """The number of a `Constant`, which has exactly one attribute."""
    forms = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    names = [attribute.name for attribute in node.proto.attribute]
    if names == ["value"]:
        return array_of(node.attr("value"))
    if len(names) != 1 or names[0] not in forms:
        raise Refused("states its constant in a form that is not known to the checker")
    return np.asarray(node.attr(names[0]), forms[names[0]])


class Still:
    """What the functions of `moves` need of a reading, where the value that they move is a constant."""

    def __init__(self, held: Array) -> None:
        self.held = held

    def places(self, value: Value) -> Array:
        """The flat index of each number, in the constant's shape."""
        return np.arange(self.held.size).reshape(value.shape)

    def moved(self, _: Value, index: Array) -> Array:
        """The numbers at these places, 0 where the place is -1."""
        return np.asarray(np.append(self.held.ravel(), np.zeros(1, self.held.dtype))[index])

    def plus(self, moved: Array, constant: Array) -> Array:
        """What fills places that held nothing."""
        return (moved + constant).astype(self.held.dtype)


def _moved(node: Node) -> list[Array]:
    """The numbers of the first input, moved as those of a value would be."""
    from withstand.checker.reading import OPERATORS

    held = node.take(0)
    found = OPERATORS[node.op](Still(held), node)  # type: ignore[arg-type]
    return found if isinstance(found, list) else [found]  # type: ignore[list-item]


def _run(node: "onnx.NodeProto", version: int, feeds: dict[str, Array]) -> list[Array]:
    """One node on constants."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    inputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds]
    names = [name for name in node.output if name]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    try:
        found = dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))
    except Exception as error:
        raise Refused(f"cannot be computed ({error})") from error
    return [np.asarray(found.get(name, 0)) for name in node.output]
