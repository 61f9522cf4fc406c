"""One node of an ONNX file as its lowering sees it, and what the standard allows it to hold.

What a node leaves out is what the standard says of its operator in the file's operator set; what it holds and its
lowering does not look at is refused, unless it is the default. So no lowering can pass over what it does not know.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from withstand.graph.builder import Array, Unsupported, Value

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema

OLDEST, NEWEST = 7, 23
"""The operator sets whose meaning the lowerings know."""


class Attributes(Mapping[str, Any]):
    """The attributes of a node, and the defaults of those that it leaves out. It remembers which were looked at."""

    def __init__(self, node: "onnx.NodeProto", schema: "OpSchema") -> None:
        self._given = {a.name: _plain(a) for a in node.attribute}
        forms = schema.attributes
        self._defaults = {n: _plain(f.default_value) for n, f in forms.items() if f.default_value.type}
        self._seen: set[str] = set()
        kinds = {name: form.type.value for name, form in forms.items()}  # pyright: ignore[reportAttributeAccessIssue]
        unknown = [a.name for a in node.attribute if kinds.get(a.name) != a.type]
        if unknown or len(self._given) < len(node.attribute):
            name = (unknown or [node.attribute[-1].name])[0]
            raise Unsupported(f"has an attribute '{name}' that the standard does not give it")
        if missing := [name for name, form in forms.items() if form.required and name not in self._given]:
            raise Unsupported(f"lacks its attribute '{missing[0]}'")

    def __getitem__(self, name: str) -> Any:
        self._seen.add(name)
        return self._given[name] if name in self._given else self._defaults[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    @property
    def unread(self) -> list[str]:
        """The names of those that nobody looked at and that are not their defaults."""
        return [n for n, value in self._given.items() if n not in self._seen and value != self._defaults.get(n)]


class Call:
    """One ONNX node to lower: its inputs (None where left out) and attributes.

    version: the operator set in which its operator got the meaning it has here. outputs: how many outputs are used, up
    to the last one. named: how many the node names. Raises Unsupported where the standard does not allow the node.
    """

    def __init__(self, node: "onnx.NodeProto", opset: int, inputs: Sequence[Array | None], outputs: int) -> None:
        schema = schema_of(node.op_type, opset)
        if schema is None:
            raise Unsupported(f"is not part of operator set {opset}")
        for what, names, least, most in (
            ("inputs", node.input, schema.min_input, schema.max_input),
            ("outputs", node.output, schema.min_output, schema.max_output),
        ):
            if not least <= len(names) <= most:
                raise Unsupported(f"has {len(names)} {what}")
        for form, name in zip(schema.inputs, node.input):
            if not name and form.option.name == "Single":  # pyright: ignore[reportAttributeAccessIssue]
                raise Unsupported(f"lacks its input '{form.name}'")
        self.op, self.version, self.outputs, self.named = node.op_type, schema.since_version, outputs, len(node.output)
        self.attrs = Attributes(node, schema)
        self._inputs, self._seen = list(inputs), set[int]()

    @property
    def inputs(self) -> Sequence[Array | None]:
        """All inputs."""
        self._seen.update(range(len(self._inputs)))
        return self._inputs

    def array(self, index: int) -> Array:
        """An input that must be there."""
        found = self.optional(index)
        if found is None:
            raise Unsupported(f"lacks its input {index}")
        return found

    def optional(self, index: int) -> Array | None:
        """An input, or None."""
        self._seen.add(index)
        return self._inputs[index] if index < len(self._inputs) else None

    def constant(self, index: int) -> Tensor | None:
        """An optional input that must be a constant."""
        found = self.optional(index)
        if isinstance(found, Value):
            raise Unsupported(f"takes its input {index} from the network's input, where a constant is needed")
        return found

    def ints(self, index: int, attr: str) -> list[int] | None:
        """Integers that newer versions take from an input and older ones from an attribute."""
        found = self.constant(index)
        if found is not None:
            return [int(i) for i in found.reshape(-1).tolist()]
        return list(self.attrs[attr]) if attr in self.attrs else None

    def axes(self, index: int, rank: int) -> list[int] | None:
        """`ints` that name axes of an array of this rank, counted from 0."""
        found = self.ints(index, "axes")
        return None if found is None else [axis_of(axis, rank) for axis in found]

    def finish(self) -> None:
        """Raise Unsupported if the node holds anything that was not looked at."""
        if self.attrs.unread:
            raise Unsupported(f"has the attribute '{self.attrs.unread[0]}', which is not read")
        unread = [i for i, value in enumerate(self._inputs) if value is not None and i not in self._seen]
        if unread:
            raise Unsupported(f"has an input {unread[0]}, which is not read")


def schema_of(op: str, opset: int) -> "OpSchema | None":
    """What the standard says of an operator; None where the operator set does not have it."""
    from onnx import defs

    try:
        schema = defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from 0."""
    if not -rank <= axis < max(rank, 1):
        raise Unsupported(f"names the axis {axis} of an array with {rank} axes")
    return axis % rank if rank else 0


def _plain(attribute: "onnx.AttributeProto") -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
