"""Reads ONNX files into the checker's networks."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from withstand.checker.folding import folded
from withstand.checker.functions import Function
from withstand.checker.machine import MACHINES
from withstand.checker.maps import Identity, Map, Take
from withstand.checker.network import Activation, Affine, Network, Step, digest_of
from withstand.checker.node import KINDS, MOST, Node, Refused, Value, kind_of, sized
from withstand.checker.onnx_file import content, ends, opset_of, parse, weights
from withstand.core.errors import InputError

if TYPE_CHECKING:
    import onnx

Array = np.ndarray

Operator = Callable[["Reading", Node], "Value | list[Value]"]

OPERATORS: dict[str, Operator] = {}
"""What reads each ONNX operator: the functions of `operators`, `moves` and `images`."""


def reads(*names: str) -> Callable[[Operator], Operator]:
    """Register a function for these operators."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def read_network(source: str | PathLike[str] | bytes) -> Network:
    """The network of an ONNX file, or of its bytes, for a batch of one.

    Raises InputError when it is none, has several inputs or outputs, depends on more than the file's bytes, or holds an
    operator, a type, an attribute or an input that the checker does not know.
    """
    from withstand.checker import images, moves, operators  # noqa: F401  (they register what reads each operator)

    data = content(source)
    return Reading(parse(data)).network(digest_of(data))


class Reading:
    """One walk over a file. The functions of `operators` call `affine`, `activation` and `moved`."""

    def __init__(self, proto: "onnx.ModelProto") -> None:
        self.graph, self.opset = proto.graph, opset_of(proto)
        self.steps: list[Step] = []
        self.sizes: list[int] = []
        self.neurons = 0
        given, output = ends(self.graph)
        self.values: dict[str, Value | Array] = {}
        self.values.update(weights(self.graph))
        self.input_name, self.output_name = given.name, output.name
        self.stated = KINDS.get(output.type.tensor_type.elem_type, "")
        self.uses = Counter(name for node in self.graph.node for name in node.input) + Counter([self.output_name])
        self.shared: set[int] = set()
        self.input_shape = self._input_shape([d.dim_value for d in given.type.tensor_type.shape.dim])
        self.kinds = {given.name: KINDS[given.type.tensor_type.elem_type]}
        self._bind(self.input_name, Value(self._new(int(np.prod(self.input_shape))), self.input_shape))

    def network(self, digest: str) -> Network:
        """The whole network."""
        for node in self.graph.node:
            self._read(node)
        output = self.values.get(self.output_name)
        if not isinstance(output, Value):
            raise InputError("The network's output does not depend on its input, so there is nothing to check.")
        if self.stated not in (self.kinds[self.output_name], ""):
            raise InputError(f"The network's output is stated as {self.stated}, which it is not, so export it again.")
        shape = self.input_shape
        kinds = set(self.kinds.values())
        own = MACHINES[kinds.pop()] if len(kinds) == 1 else None
        steps, sizes = tuple(self.steps), tuple(self.sizes)
        return Network(steps, sizes, output.number, self.input_name, shape, digest, own=own)

    def affine(self, parts: Sequence[tuple[Value, Map]], bias: Array | None, shape: tuple[int, ...]) -> Value:
        """The sum of maps of values, plus a bias of this shape (or one that broadcasts to it)."""
        sized(shape)
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
        sized(index.shape)
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
        shape = (max(1, dims[0]), *dims[1:]) if dims else ()
        if min(shape, default=1) < 1:
            raise InputError("Only the batch may be of open size, so export the network with fixed sizes.")
        if math.prod(shape) > MOST:
            raise InputError(f"The network's input has {math.prod(shape):,} numbers; the checker takes up to {MOST:,}.")
        return shape

    def _read(self, node: "onnx.NodeProto") -> None:
        where = f"The ONNX operator {node.op_type} (node '{node.name or next(iter(node.output), '')}')"
        inputs = [self._lookup(name) for name in node.input]
        try:
            call = Node(node, self.opset, inputs, [self._kind(name) for name in node.input])
            results = folded(call)
            if results is None and node.op_type not in OPERATORS:
                raise Refused("is not known to the checker")
            found = OPERATORS[node.op_type](self, call) if results is None else results
            call.finish()
            for name, kind, one in zip(node.output, call.kinds, found if isinstance(found, list) else [found]):
                self._give(name, kind, one)
        except Refused as reason:
            raise InputError(f"{where} {reason}, so this network's certificates cannot be checked.") from None
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise InputError(f"{where} cannot be read with these inputs: {error}") from error

    def _give(self, name: str, kind: str, found: Value | Array) -> None:
        """Bind one result of a node; the mask of a dropout and the like are not given, and must not be read."""
        if isinstance(found, Value):
            if not self.sizes[found.number]:
                raise Refused("has an empty result")
            if kind not in KINDS.values():
                raise Refused("turns numbers into another kind than floats")
            self.kinds[name] = kind
        if name:
            self._bind(name, found)

    def _kind(self, name: str) -> str:
        if not name:
            return ""
        found = self.values[name]
        return kind_of(found) if isinstance(found, np.ndarray) else self.kinds[name]

    def _lookup(self, name: str) -> "Value | Array | None":
        if not name:
            return None
        if name not in self.values:
            raise InputError(f"The network reads '{name}' before it is made, so export it again.")
        return self.values[name]
