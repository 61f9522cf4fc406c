"""Reads ONNX files into the checker's networks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from withstand.checker.functions import Function
from withstand.checker.maps import Identity, Map, Take
from withstand.checker.network import Activation, Affine, Network, Step, digest_of
from withstand.core.errors import InputError

if TYPE_CHECKING:
    import onnx

Array = np.ndarray

EXACT = {"Cast", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad", "Range", "Reshape"}
EXACT |= {"Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where", "Equal"}
"""Operators that only move numbers: of constants they are constants."""

LARGEST = 2.0**128
"""No weight may be larger: those of float32 are not."""

WHOLE = {"Add", "Sub", "Mul", "Div", "Mod", "Neg", "Min", "Max", "ReduceProd"}
"""Operators of whole numbers, such as shapes, that are exact too."""


class Refused(Exception):
    """An operator is used in a way that is not supported; the message ends the sentence `The operator ...`."""


@dataclass(frozen=True)
class Value:
    """A value of the network by its number, and the ONNX shape in which the file sees it (batch of 1 included)."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """An ONNX node with its inputs looked up: values, constants, or None where left out."""

    op: str
    inputs: Sequence[Value | Array | None]
    attrs: dict[str, Any]
    outputs: int

    def value(self, index: int = 0) -> Value:
        """An input that must depend on the network's input."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(found, Value):
            raise Refused(f"has a constant as its input {index}")
        return found

    def constant(self, index: int) -> Array | None:
        """An input that must be a constant, in float64 where it is a float; None if it is left out."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(found, Value):
            raise Refused(f"takes its input {index} from the network's input, where a constant is needed")
        return None if found is None else exact(found)

    def needed(self, index: int) -> Array:
        """A constant that must be there."""
        found = self.constant(index)
        if found is None:
            raise Refused(f"lacks its input {index}")
        return found

    def whole(self, index: int, name: str) -> list[int] | None:
        """Whole numbers that newer files have as an input and older ones as an attribute."""
        found = self.constant(index)
        if found is not None:
            return [int(i) for i in found.ravel()]
        return list(self.attrs[name]) if name in self.attrs else None


Operator = Callable[["Reading", Node], "Value | list[Value]"]

OPERATORS: dict[str, Operator] = {}
"""What reads each ONNX operator: the functions of `operators` and `images`."""


def reads(*names: str) -> Callable[[Operator], Operator]:
    """Register a function for these operators."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def exact(array: Array) -> Array:
    """A constant in a type that holds all its numbers: float64 for floats. Refuses infinities and NaN."""
    if array.dtype.kind in "biu":
        return array
    wide = array.astype(np.float64)
    if not (np.abs(wide) < LARGEST).all():
        raise Refused("has a weight that is not a finite number, or beyond those of float32")
    return wide


def read_network(source: str | PathLike[str] | bytes) -> Network:
    """The network of an ONNX file, or of its bytes, for a batch of one.

    Raises InputError when it is none, has several inputs or outputs, weights in other files, or an operator that the
    checker does not know.
    """
    from withstand.checker import images, operators  # noqa: F401  (they register what reads each operator)

    data = source if isinstance(source, bytes) else _content(Path(source))
    return Reading(_parse(data)).network(digest_of(data))


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"There is no file '{path}', so give the path of an ONNX file.")
    return path.read_bytes()


def _parse(data: bytes) -> "onnx.ModelProto":
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:
        raise InputError(f"The network is not a readable ONNX file, so export it again ({error}).") from error
    if not proto.graph.output:
        raise InputError("The file is not an ONNX network, so export the model with torch.onnx.export.")
    if any(uses_external_data(tensor) for tensor in proto.graph.initializer):
        raise InputError("The network's weights lie in other files, so save it with its weights inside.")
    return proto


class Reading:
    """One walk over a file. The functions of `operators` call `affine`, `activation` and `moved`."""

    def __init__(self, proto: "onnx.ModelProto") -> None:
        from onnx import numpy_helper

        self.proto = proto
        self.steps: list[Step] = []
        self.sizes: list[int] = []
        self.neurons = 0
        self.values: dict[str, Value | Array] = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        inputs = [i for i in proto.graph.input if i.name not in self.values]
        for kind, found in (("input", inputs), ("output", proto.graph.output)):
            if len(found) != 1:
                raise InputError(f"The network has {len(found)} {kind}s, so export it with a single {kind}.")
        self.input_name, self.output_name = inputs[0].name, proto.graph.output[0].name
        self.uses = Counter(name for node in proto.graph.node for name in node.input) + Counter([self.output_name])
        self.shared: set[int] = set()
        self.input_shape = self._input_shape([d.dim_value for d in inputs[0].type.tensor_type.shape.dim])
        self._bind(self.input_name, Value(self._new(int(np.prod(self.input_shape))), self.input_shape))

    def network(self, digest: str) -> Network:
        """The whole network."""
        for node in self.proto.graph.node:
            self._read(node)
        output = self.values.get(self.output_name)
        if not isinstance(output, Value):
            raise InputError("The network's output does not depend on its input, so there is nothing to check.")
        shape = self.input_shape
        return Network(tuple(self.steps), tuple(self.sizes), output.number, self.input_name, shape, digest)

    def affine(self, parts: Sequence[tuple[Value, Map]], bias: Array | None, shape: tuple[int, ...]) -> Value:
        """The sum of maps of values, plus a bias of this shape (or one that broadcasts to it)."""
        flat = None if bias is None else np.broadcast_to(bias, shape).astype(np.float64).ravel()
        sources = tuple(value.number for value, _ in parts)
        self.steps.append(Affine(self._new(int(np.prod(shape))), sources, tuple(m for _, m in parts), flat))
        return Value(len(self.sizes) - 1, shape)

    def activation(self, value: Value, function: Function, shape: tuple[int, ...] | None = None) -> Value:
        """A function of each coordinate, or one whose result has another shape."""
        size, shape = self.sizes[value.number], value.shape if shape is None else shape
        neurons = slice(self.neurons, self.neurons + size)
        self.neurons += size
        self.steps.append(Activation(self._new(int(np.prod(shape))), value.number, function, neurons))
        return Value(len(self.sizes) - 1, shape)

    def moved(self, value: Value, index: Array) -> Value:
        """Coordinates of a value, by their flat index (-1: the number 0), in the shape of the index."""
        size = self.sizes[value.number]
        if index.size == size and (index.ravel() == np.arange(size)).all():
            return Value(value.number, index.shape)
        return self.affine([(value, Take(index.ravel(), size))], None, index.shape)

    def places(self, value: Value) -> Array:
        """The flat index of each coordinate, in the value's shape."""
        return np.arange(self.sizes[value.number]).reshape(value.shape)

    def plus(self, value: Value, constant: Array) -> Value:
        """A value plus a constant, which goes into the affine map that made the value if that has none yet."""
        shape = np.broadcast_shapes(value.shape, constant.shape)
        value = self.moved(value, np.broadcast_to(self.places(value), shape))
        last = self.steps[-1] if self.steps else None
        if isinstance(last, Affine) and last.out == value.number and last.bias is None and last.out not in self.shared:
            bias = np.broadcast_to(constant, shape).astype(np.float64).ravel()
            self.steps[-1] = replace(last, bias=bias)
            return value
        return self.affine([(value, Identity(self.sizes[value.number]))], constant, shape)

    def _new(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def _bind(self, name: str, found: Value | Array) -> None:
        self.values[name] = found
        if isinstance(found, Value) and self.uses[name] > 1:
            self.shared.add(found.number)

    def _input_shape(self, dims: list[int]) -> tuple[int, ...]:
        shape = (max(1, dims[0]), *dims[1:]) if dims else (1,)
        if 0 in shape:
            raise InputError("Only the batch may be of open size, so export the network with fixed sizes.")
        return shape

    def _read(self, node: "onnx.NodeProto") -> None:
        from onnx import helper

        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attrs = {name: value.decode() if isinstance(value, bytes) else value for name, value in attrs.items()}
        call = Node(node.op_type, [self._lookup(name) for name in node.input], attrs, len(node.output))
        where = f"The ONNX operator {node.op_type} (node '{node.name or node.output[0]}')"
        try:
            if (constants := self._folded(node, call)) is not None:
                results = constants
            elif node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
                raise Refused("is not known to the checker")
            else:
                results = OPERATORS[node.op_type](self, call)
        except Refused as reason:
            raise InputError(f"{where} {reason}, so this network's certificates cannot be checked.") from None
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} cannot be read with these inputs: {error}") from error
        for name, found in zip(node.output, results if isinstance(results, list) else [results], strict=False):
            self._bind(name, found)

    def _lookup(self, name: str) -> "Value | Array | None":
        if not name:
            return None
        if name not in self.values:
            raise InputError(f"The network reads '{name}' before it is made, so export it again.")
        return self.values[name]

    def _folded(self, node: "onnx.NodeProto", call: Node) -> list[Array] | None:
        """The results as constants, if they are constant and exact."""
        from onnx import numpy_helper

        if call.op == "Constant":
            held = call.attrs.get("value")
            if held is not None:
                return [numpy_helper.to_array(held)]
            name, number = next(iter(call.attrs.items()))
            return [np.asarray(number, np.int64 if "int" in name else np.float32)]
        if call.op == "Shape":
            shape = call.inputs[0].shape if call.inputs[0] is not None else ()
            return [np.array(shape[call.attrs.get("start", 0) : call.attrs.get("end")], np.int64)]
        known = [i for i in call.inputs if i is not None]
        if any(isinstance(i, Value) for i in known):
            return None
        arrays = [i for i in known if isinstance(i, np.ndarray)]
        whole = call.op in WHOLE and all(a.dtype.kind in "biu" for a in arrays)
        if call.op not in EXACT and not whole:
            raise Refused("computes a constant, which would have to be rounded; fold constants when exporting")
        return _run(node, self.proto, dict(zip((n for n in node.input if n), arrays, strict=True)))


def _run(node: "onnx.NodeProto", proto: "onnx.ModelProto", feeds: dict[str, Array]) -> list[Array]:
    """One node on constants."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    inputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds]
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=list(proto.opset_import))
    try:
        return [np.asarray(found) for found in ReferenceEvaluator(model).run(None, feeds)]
    except Exception as error:
        raise Refused(f"cannot be computed ({error})") from error
