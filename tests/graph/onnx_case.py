"""Small ONNX networks of one or a few nodes, and their comparison with onnxruntime."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from withstand.graph.model import Model
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.replay import OnnxSession


def network(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str | None],
    constants: dict[str, Any] | None = None,
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    output_shape: Sequence[int | str | None] | None = None,
) -> bytes:
    """An ONNX file with input x and output y."""
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    y = helper.make_tensor_value_info("y", kind, output_shape)
    graph = helper.make_graph(nodes, "case", [helper.make_tensor_value_info("x", kind, shape)], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def node(op: str, inputs: str = "x", outputs: str = "y", **attrs: Any) -> onnx.NodeProto:
    """A node; names are parted by blanks, `-` leaves an input out."""
    return helper.make_node(op, ["" if i == "-" else i for i in inputs.split()], outputs.split(), **attrs)


def agrees(data: bytes, low: float = -2.0, high: float = 2.0, tolerance: float = 1e-5) -> Model:
    """Read a network and compare it with onnxruntime on batches of 1 and 5."""
    model = read_onnx(data)
    session = OnnxSession(data)
    generator = torch.Generator().manual_seed(3)
    for batch in (1, 5):
        x = low + (high - low) * torch.rand(batch, *model.input_shape, generator=generator)
        ours, theirs = model(x).numpy(), session(x.numpy())
        assert ours.shape == theirs.shape == (batch, *model.output_shape)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance * 10, atol=tolerance)
    return model


def ops(model: Model) -> list[str]:
    """The operations of a model's graph, in order."""
    assert model.graph is not None
    return [n.op for n in model.graph.nodes]
