"""ONNX networks of float64 in onnx's own reference implementation, where onnxruntime has no kernels of that type."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from withstand.graph.onnx_file import parse_onnx

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class End:
    """An input or output, as onnxruntime describes them: open sizes are words."""

    name: str
    shape: list[Any]
    type: str


class ReferenceSession:
    """What `withstand.graph.replay` asks of a session of onnxruntime, by numpy. Slow. Only for inputs of float64."""

    def __init__(self, source: "bytes | str | Path") -> None:
        from onnx.reference import ReferenceEvaluator

        proto = parse_onnx(_given(source))
        weights = {tensor.name for tensor in proto.graph.initializer}
        self._inputs = [_end(value) for value in proto.graph.input if value.name not in weights]
        self._outputs = [_end(value) for value in proto.graph.output]
        self.run = ReferenceEvaluator(proto).run

    def get_inputs(self) -> list[End]:
        """The inputs that are no weights."""
        return self._inputs

    def get_outputs(self) -> list[End]:
        """The outputs."""
        return self._outputs


def is_double(source: "bytes | str | Path") -> bool:
    """Whether a network's only input is of float64."""
    proto = parse_onnx(_given(source))
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [v.type.tensor_type.elem_type for v in proto.graph.input if v.name not in weights] == [11]


def _given(source: "bytes | str | Path") -> "bytes | Path":
    return source if isinstance(source, bytes) else Path(source)


def _end(value: "onnx.ValueInfoProto") -> End:
    kind = value.type.tensor_type
    return End(value.name, [axis.dim_value or "open" for axis in kind.shape.dim], "tensor(double)")
