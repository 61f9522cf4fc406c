"""ONNX files as the checker takes them: everything that their function depends on lies in the file's own bytes."""

from collections import Counter
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from withstand.checker.node import KINDS
from withstand.core.errors import InputError

if TYPE_CHECKING:
    import onnx

Array = np.ndarray

OLDEST, NEWEST = 7, 23
"""The operator sets whose meaning the checker knows; others are refused."""


def content(source: str | PathLike[str] | bytes) -> bytes:
    """The bytes of a file, or those given."""
    if isinstance(source, bytes):
        return source
    path = Path(source)
    if not path.is_file():
        raise InputError(f"There is no file '{path}', so give the path of an ONNX file.")
    return path.read_bytes()


def parse(data: bytes) -> "onnx.ModelProto":
    """The network in an ONNX file's bytes.

    Raises InputError when it is none, reads other files, or holds more than one graph of the standard's operators in
    which every name is made once.
    """
    import onnx

    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:
        raise InputError(f"The network is not a readable ONNX file, so export it again ({error}).") from error
    if not proto.graph.output:
        raise InputError("The file is not an ONNX network, so export the model with torch.onnx.export.")
    _alone(proto)
    _named_once(proto.graph)
    return proto


def opset_of(proto: "onnx.ModelProto") -> int:
    """The version of the standard's operator set that the file asks for."""
    from onnx import defs

    asked = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    newest = min(NEWEST, defs.onnx_opset_version())
    if len(asked) != 1 or not OLDEST <= asked[0] <= newest:
        found = " and ".join(str(version) for version in asked) or "none"
        raise InputError(
            f"The network asks for operator set {found} and the checker knows {OLDEST} to {newest}, so export it for "
            f"one of these."
        )
    return asked[0]


def ends(graph: "onnx.GraphProto") -> "tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]":
    """The input that has no default, and the output: there must be one of each, the input of float32 or float64."""
    held = {tensor.name for tensor in graph.initializer}
    inputs = [i for i in graph.input if i.name not in held]
    for kind, found in (("input", inputs), ("output", graph.output)):
        if len(found) != 1:
            raise InputError(f"The network has {len(found)} {kind}s, so export it with a single {kind}.")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in KINDS:
        raise InputError(f"The network's input '{inputs[0].name}' is not of float32 or float64, so export one that is.")
    if not kind.HasField("shape"):
        raise InputError("The network does not tell its input's shape, so export it with fixed sizes.")
    return inputs[0], graph.output[0]


def weights(graph: "onnx.GraphProto") -> dict[str, Array]:
    """The stored constants by name."""
    return {tensor.name: array_of(tensor) for tensor in graph.initializer}


def array_of(tensor: "onnx.TensorProto") -> Array:
    """A stored constant. Raises InputError where it is malformed, or holds no numbers."""
    from onnx import numpy_helper

    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The network's constant '{tensor.name}' is malformed, so export it again: {reason}"
        ) from error
    if array.dtype.kind in "OSU":
        raise InputError(f"The network's constant '{tensor.name}' holds words, not numbers, so export it without.")
    return array


def _alone(proto: "onnx.ModelProto") -> None:
    """Refuse what lies outside the one graph, or the file."""
    from onnx.external_data_helper import uses_external_data

    graph = proto.graph
    outside = {
        "functions of its own": proto.functions,
        "steps of training": proto.training_info,
        "sparse constants": graph.sparse_initializer,
    }
    for what, held in outside.items():
        if held:
            raise InputError(f"The network holds {what}, so export it without.")
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.graphs or attribute.HasField("g"):
                raise InputError(f"The ONNX operator {node.op_type} holds a graph of its own, so export without it.")
            tensors += [*attribute.tensors, attribute.t]
            for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                tensors += [sparse.values, sparse.indices]
    if any(uses_external_data(tensor) or tensor.external_data for tensor in tensors):
        raise InputError("The network's weights lie in other files, so save it with its weights inside.")


def _named_once(graph: "onnx.GraphProto") -> None:
    twice = [name for name, count in Counter(_made(graph)).items() if count > 1]
    if twice:
        raise InputError(f"The network makes '{twice[0]}' more than once, so export it again.")


def _made(graph: "onnx.GraphProto") -> Iterator[str]:
    """Every name as often as something gives it a value; an input with a default has it from there."""
    held = [tensor.name for tensor in graph.initializer]
    yield from held
    yield from (i.name for i in graph.input if i.name not in held)
    yield from (name for node in graph.node for name in node.output if name)
