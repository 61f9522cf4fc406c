"""One-node networks by operator, made for every operator set in which they can be said."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

OLDEST, NEWEST = 7, 23

CASES: dict[str, list["Case"]] = {}
"""The networks of each operator."""

RENAMED = {"value": "constant_value", "mean": "input_mean", "var": "input_var"}
"""What attributes and inputs of older operator sets are called as inputs of newer ones."""

NEGATED, ITSELF = "-x", "x"
"""As a given input: the network's input negated, or itself."""


@dataclass(frozen=True)
class Case:
    """A node on the network's input x of a shape, drawn from [low, high].

    given: attributes, and inputs by the standard's names: arrays are stored constants, and `ITSELF` and `NEGATED` the
    network's input. more: inputs after the named ones, of operators that take any number. refused: which readers
    (`checker`, `reader`) refuse it, though onnxruntime runs it. at: the name of the input that is x, the first unless
    told. since, until: operator sets of the node, beside those that cannot say it. still: x is a stored constant in
    any case.
    """

    op: str
    shape: tuple[int, ...]
    given: dict[str, Any]
    more: tuple[Any, ...] = ()
    refused: tuple[str, ...] = ()
    at: str = ""
    outputs: int = 1
    low: float = -2.0
    high: float = 2.0
    since: int = OLDEST
    until: int = NEWEST
    still: bool = False
    kind: type = field(default=np.float32)

    def versions(self) -> list[int]:
        """One operator set for every meaning of the operator that can say the case."""
        return [v for v in versions(self.op) if self.since <= v <= self.until and self._said(v)]

    def _said(self, opset: int) -> bool:
        form = defs.get_schema(self.op, opset, "")
        inputs = {i.name for i in form.inputs}
        return all(name in form.attributes or self._input(name, form) in inputs for name in self.given)

    @staticmethod
    def _input(name: str, form: defs.OpSchema) -> str:
        return name if name in {i.name for i in form.inputs} else RENAMED.get(name, name)

    def settings(self, opset: int) -> set[str]:
        """The attributes that are set, other than to their defaults, and the optional inputs that are given."""
        form = defs.get_schema(self.op, opset, "")
        found = {self._input(name, form) for name in self.given if name not in form.attributes}
        for name, value in self.given.items():
            if name in form.attributes and not _equal(plain(form.attributes[name].default_value), value):
                found.add(name)
        return found | ({"more"} if self.more else set())

    def network(self, opset: int, constant: bool = False) -> bytes:
        """The file: the result's numbers and then its shape, in one list. constant: the node works on a stored array
        of the input's shape, and the network adds its one input to the result."""
        form = defs.get_schema(self.op, opset, "")
        made = _Made(opset, helper.np_dtype_to_tensor_dtype(self.stored))
        x = made.store(self.sample(np.random.default_rng(5))) if constant else "x"
        attrs = {name: value for name, value in self.given.items() if name in form.attributes}
        held = {self._input(n, form): v for n, v in self.given.items() if n not in attrs}
        names = [made.input(x, held[i.name]) if i.name in held else "" for i in form.inputs]
        place = next((k for k, i in enumerate(form.inputs) if i.name == self.at), 0)
        if form.inputs:
            names[place] = names[place] or x
        names += [made.input(x, value) for value in self.more]
        while names and not names[-1]:
            names.pop()
        outputs = [f"y{k}" for k in range(self.outputs)]
        made.nodes.append(helper.make_node(self.op, names, outputs, **attrs))
        return made.file((1,) if constant else self.shape, outputs, constant)

    @property
    def stored(self) -> np.dtype:
        """The type of the network's input."""
        return np.dtype(self.kind if np.dtype(self.kind).kind == "f" else np.float32)

    def sample(self, random: np.random.Generator) -> np.ndarray:
        """One input."""
        return np.asarray(random.uniform(self.low, self.high, self.shape)).astype(self.kind)


class _Made:
    """A file while it is made."""

    def __init__(self, opset: int, kind: int) -> None:
        self.opset, self.kind = opset, kind
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def store(self, value: Any) -> str:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(helper.tensor_dtype_to_np_dtype(self.kind))
        self.stored.append(numpy_helper.from_array(array, f"c{len(self.stored)}"))
        return self.stored[-1].name

    def input(self, x: str, value: Any) -> str:
        if isinstance(value, str) and value == NEGATED:
            return self.add("Neg", x)
        return x if isinstance(value, str) else self.store(value)

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"n{len(self.nodes)}"], **attrs))
        return self.nodes[-1].output[0]

    def file(self, shape: tuple[int, ...], outputs: list[str], constant: bool) -> bytes:
        parts = []
        flat = self.store(np.array([-1]))
        for output in outputs:
            numbers = self.add("Reshape", self.add("Cast", output, to=self.kind) if constant else output, flat)
            size = self.add("Cast", self.add("Shape", output), to=self.kind)
            parts += [self.add("Add", numbers, "x") if constant else numbers, size]
        last = self.add("Concat", *parts, axis=0)
        given = helper.make_tensor_value_info("x", self.kind, shape)
        graph = helper.make_graph(
            self.nodes, "case", [given], [helper.make_tensor_value_info(last, self.kind, None)], self.stored
        )
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def case(op: str, shape: tuple[int, ...], /, **given: Any) -> None:
    """Register a network; what is no further field of `Case` is an attribute or an input."""
    own = {k: given.pop(k) for k in list(given) if k in Case.__dataclass_fields__ and k != "shape"}
    CASES.setdefault(op, []).append(Case(op, shape, given, **own))


def versions(op: str) -> list[int]:
    """For every meaning that an operator has in the operator sets of interest the first that has it."""
    found: dict[int, int] = {}
    for opset in range(OLDEST, NEWEST + 1):
        try:
            form = defs.get_schema(op, opset, "")
        except defs.SchemaError:
            continue
        if not form.deprecated:
            found.setdefault(form.since_version, opset)
    return list(found.values())


def plain(attribute: onnx.AttributeProto) -> Any:
    """An attribute's value, None where there is none."""
    value = helper.get_attribute_value(attribute) if attribute.type else None
    return value.decode() if isinstance(value, bytes) else value


def _equal(default: Any, value: Any) -> bool:
    return default is not None and np.array_equal(default, value)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    """Random weights."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    """A list of whole numbers."""
    return np.array(numbers, np.int64)
