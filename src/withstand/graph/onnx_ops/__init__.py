"""Lowerings of ONNX operators: one function an operator, registered by its ONNX name in any file of this folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from withstand.graph.builder import Array, Unsupported, Value
from withstand.graph.lowerings import Lowerings


@dataclass(frozen=True)
class Call:
    """One ONNX node to lower: its inputs (None where left out), attributes and version of the operator set.

    outputs: how many outputs are used, up to the last one. named: how many the node names.
    """

    op: str
    inputs: Sequence[Array | None]
    attrs: dict[str, Any]
    opset: int
    outputs: int
    named: int

    def array(self, index: int) -> Array:
        """An input that must be there."""
        found = self.optional(index)
        if found is None:
            raise Unsupported(f"lacks its input {index}")
        return found

    def optional(self, index: int) -> Array | None:
        """An input, or None."""
        return self.inputs[index] if index < len(self.inputs) else None

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


_LOWERINGS = Lowerings(__name__)
lowers = _LOWERINGS.register
"""Register a function as the lowering of these ONNX operators."""
table = _LOWERINGS.table
"""All lowerings by ONNX operator name."""
