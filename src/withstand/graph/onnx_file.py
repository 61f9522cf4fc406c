"""ONNX files as messages, before anything is made of them. Loads no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from withstand.core.errors import InputError

if TYPE_CHECKING:
    import onnx


def parse_onnx(source: bytes | Path) -> "onnx.ModelProto":
    """The network of a file or of its bytes. Raises InputError where there is no file, or it holds none."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    what = "These bytes are" if isinstance(source, bytes) else f"'{source}' is"
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"There is no file '{source}', so give the path of an ONNX file.")
    try:
        proto = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))
    except Exception as error:
        raise InputError(f"{what} not a readable ONNX network, so export the model again ({error}).") from error
    if isinstance(source, bytes) and any(uses_external_data(tensor) for tensor in tensors(proto.graph)):
        raise InputError(f"{what} an ONNX network with weights in other files, so give the file itself.")
    if not proto.graph.node and not proto.graph.output:
        raise InputError(f"{what} not an ONNX network, so export the model with torch.onnx.export.")
    return proto


def tensors(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    """All that a graph stores: its weights, and what its nodes and their graphs hold."""
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from tensors(inner)


def sizes(proto: "onnx.ModelProto") -> tuple[set[int], set[int]]:
    """How many inputs and how many outputs a sample may have, the first axis being a batch or not; empty where that is
    not to be seen."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    ends = ([i for i in proto.graph.input if i.name not in weights], list(proto.graph.output))
    return tuple(_counts(end[0]) if len(end) == 1 else set() for end in ends)  # type: ignore[return-value]


def _counts(end: "onnx.ValueInfoProto") -> set[int]:
    shape = [axis.dim_value for axis in end.type.tensor_type.shape.dim]
    if not shape or 0 in shape[1:]:
        return set()
    inner = 1
    for size in shape[1:]:
        inner *= size
    return {inner, inner * max(1, shape[0])}
