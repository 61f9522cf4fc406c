"""One node of an ONNX file as the operators of the checker see it, and what the standard allows it to hold.

Nothing that a node holds is passed over: the standard's description of the operator, in the version that the file's
operator set means, says which inputs and attributes there are, of which types, and what is meant where one is left
out; and an attribute or input that the checker's own function did not look at is refused, unless it is the default.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema

Array = np.ndarray

LARGEST = 2.0**128
"""No weight may be larger: those of float32 are not."""

KINDS = {1: "tensor(float)", 11: "tensor(double)"}
"""The types that a value which depends on the network's input may have, by their numbers in the standard."""


MOST = 2**25
"""Numbers that a value or a constant may hold; what declares more is refused before it is made."""


class Refused(Exception):
    """An operator is used in a way that is not supported; the message ends the sentence `The operator ...`."""


def sized(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape, if a value of it is small enough to be made. Raises Refused otherwise."""
    if math.prod(shape) > MOST:
        raise Refused(f"makes {math.prod(shape):,} numbers, more than {MOST:,}")
    return tuple(shape)


@dataclass(frozen=True)
class Value:
    """A value of the network by its number, and the ONNX shape in which the file sees it (batch of 1 included)."""

    number: int
    shape: tuple[int, ...]


def exact(array: Array) -> Array:
    """A constant in a type that holds all its numbers: float64 for floats. Refuses infinities and NaN."""
    if array.dtype.kind in "biu":
        return array
    wide = array.astype(np.float64)
    if not (np.abs(wide) < LARGEST).all():
        raise Refused("has a weight that is not a finite number, or beyond those of float32")
    return wide


def kind_of(array: Array) -> str:
    """The type of a constant in the standard's words."""
    from onnx import TensorProto, helper

    return f"tensor({TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(array.dtype)).lower()})"


class Node:
    """A node with its inputs looked up: values, constants, or None where left out.

    version: the operator set in which its operator got the meaning that it has here. outputs: how many are named.
    given_kinds: the types of the inputs, "" where left out. kinds: of the outputs, "" where only the result tells.
    """

    def __init__(
        self, node: "onnx.NodeProto", opset: int, inputs: Sequence[Value | Array | None], kinds: Sequence[str]
    ):
        """kinds: the types of the inputs, "" where left out. Refuses what the standard does not allow."""
        self.proto, self.op, self.outputs = node, node.op_type, len(node.output)
        self.schema = _schema(node, opset)
        self.version: int = self.schema.since_version
        self._inputs, self._given, self._seen = list(inputs), _attributes(node, self.schema), set[str | int]()
        self.given_kinds, self.kinds = list(kinds), _types(self.schema, kinds, self.outputs)

    def attr(self, name: str, otherwise: Any = None) -> Any:
        """An attribute, else its default, else `otherwise`."""
        self._seen.add(name)
        if name in self._given:
            return self._given[name]
        default = _default(self.schema, name)
        return otherwise if default is None else default

    @property
    def depends(self) -> bool:
        """Whether an input depends on the network's input."""
        return any(isinstance(i, Value) for i in self._inputs)

    @property
    def inputs(self) -> "list[Value | Array | None]":
        """All inputs."""
        self._seen.update(range(len(self._inputs)))
        return self._inputs

    def given(self, index: int) -> "Value | Array | None":
        """An input, or None."""
        self._seen.add(index)
        return self._inputs[index] if index < len(self._inputs) else None

    def take(self, index: int) -> Array:
        """A constant as the file types it, in whose place a value of its shape stands from now on."""
        held = self._inputs[index]
        if not isinstance(held, np.ndarray):
            raise Refused(f"lacks its input {index}")
        self._inputs[index] = Value(0, held.shape)
        return held

    def value(self, index: int = 0) -> Value:
        """An input that must depend on the network's input."""
        found = self.given(index)
        if not isinstance(found, Value):
            raise Refused(f"has a constant as its input {index}")
        return found

    def constant(self, index: int) -> Array | None:
        """An input that must be a constant, in float64 where it is a float; None if it is left out."""
        found = self.given(index)
        if isinstance(found, Value):
            raise Refused(f"takes its input {index} from the network's input, where a constant is needed")
        return None if found is None else exact(found)

    def needed(self, index: int) -> Array:
        """A constant that must be there."""
        found = self.constant(index)
        if found is None:
            raise Refused(f"lacks its input {index}")
        return found

    def number(self, index: int, name: str) -> float | None:
        """One number, which newer files have as an input and older ones as an attribute; whole ones stay whole."""
        found = self.constant(index)
        if found is None:
            return self.attr(name)
        if found.size != 1:
            raise Refused(f"has {found.size} numbers as its input {index}, where one is needed")
        return found.ravel()[0].item()

    def whole(self, index: int, name: str) -> list[int] | None:
        """Whole numbers that newer files have as an input and older ones as an attribute; None if left out."""
        found = self.constant(index)
        if found is None:
            held = self.attr(name)
            return None if held is None else list(held)
        if found.ndim > 1:
            raise Refused(f"has an input {index} of shape {found.shape}, where a list is needed")
        return [int(i) for i in found.ravel()]

    def axes(self, index: int, rank: int) -> list[int] | None:
        """`whole` numbers that name axes of a value of this rank, counted from 0."""
        found = self.whole(index, "axes")
        return None if found is None else [axis_of(axis, rank) for axis in found]

    def everything(self) -> "onnx.NodeProto":
        """The node as the file holds it, for who reads all of it."""
        self._seen.update(self._given, range(len(self._inputs)))
        return self.proto

    def finish(self) -> None:
        """Refuse the node if it holds anything that was not looked at."""
        for name, value in self._given.items():
            if name not in self._seen and value != _default(self.schema, name):
                raise Refused(f"has the attribute {name}, which the checker does not read")
        for index, value in enumerate(self._inputs):
            if index not in self._seen and value is not None:
                raise Refused(f"has an input {index}, which the checker does not read")


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from 0."""
    if not -rank <= axis < max(rank, 1):
        raise Refused(f"names the axis {axis} of a value with {rank} axes")
    return axis % rank if rank else 0


def _schema(node: "onnx.NodeProto", opset: int) -> "OpSchema":
    from onnx import defs

    if node.domain not in ("", "ai.onnx"):
        raise Refused("is not known to the checker")
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        raise Refused("is not known to the checker") from None
    if schema.deprecated:
        raise Refused(f"is not part of operator set {opset}")
    counts = (
        ("inputs", node.input, schema.min_input, schema.max_input),
        (
            "outputs",
            node.output,
            schema.min_output,
            schema.max_output,
        ),
    )
    for what, held, least, most in counts:
        if not least <= len(held) <= most:
            raise Refused(f"has {len(held)} {what}, which operator set {opset} does not allow")
    return schema


def _attributes(node: "onnx.NodeProto", schema: "OpSchema") -> dict[str, Any]:
    from onnx import helper

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        name, form = attribute.name, schema.attributes.get(attribute.name)
        kind = None if form is None else form.type.value  # pyright: ignore[reportAttributeAccessIssue]
        if kind != attribute.type or name in found or attribute.ref_attr_name:
            raise Refused(f"has an attribute {name!r} that the standard does not give it")
        value = helper.get_attribute_value(attribute)
        found[name] = value.decode() if isinstance(value, bytes) else value
    for name, form in schema.attributes.items():
        if form.required and name not in found:
            raise Refused(f"lacks its attribute {name!r}")
    return found


def _default(schema: "OpSchema", name: str) -> Any:
    """What the standard means where an attribute is left out, None where it does not say."""
    from onnx import helper

    if name not in schema.attributes or not schema.attributes[name].default_value.type:
        return None
    value = helper.get_attribute_value(schema.attributes[name].default_value)
    return value.decode() if isinstance(value, bytes) else value


def _types(schema: "OpSchema", kinds: Sequence[str], outputs: int) -> list[str]:
    """The types of the outputs, after those of the inputs were checked."""
    bound: dict[str, str] = {}
    for index, kind in enumerate(kinds):
        form = schema.inputs[min(index, len(schema.inputs) - 1)]
        if not kind:
            if form.option.name == "Single":  # pyright: ignore[reportAttributeAccessIssue]
                raise Refused(f"lacks its input {index}")
            continue
        if kind not in form.types or bound.setdefault(form.type_str, kind) != kind:
            raise Refused(f"has an input {index} of the type {kind}, which does not fit")
    forms = [schema.outputs[min(index, len(schema.outputs) - 1)].type_str for index in range(outputs)]
    return [bound.get(form, form if form.startswith("tensor(") else "") for form in forms]
