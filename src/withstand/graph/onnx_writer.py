"""Writes op graphs as ONNX (operator set 17, any batch)."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from withstand.graph.ir import Graph

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8


def write_onnx(graph: Graph, input_name: str = "input", output_name: str = "output") -> bytes:
    """The graph as an ONNX network whose batch axis is open, in the float type of its constants."""
    from onnx import helper

    writing = Writing(graph, input_name, output_name)
    kind = helper.np_dtype_to_tensor_dtype(writing.float_type)
    model = helper.make_model(
        helper.make_graph(
            writing.nodes,
            "withstand",
            [helper.make_tensor_value_info(input_name, kind, ["batch", *graph.input_shape])],
            [helper.make_tensor_value_info(output_name, kind, ["batch", *graph.output_shape])],
            list(writing.stored.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="withstand",
    )
    return model.SerializeToString()


class Writing:
    """One ONNX file while it is written; the functions of `onnx_writer_ops` call its methods."""

    def __init__(self, graph: Graph, input_name: str, output_name: str) -> None:
        from withstand.graph.onnx_writer_ops import WRITERS

        self.graph = graph
        self.float_type = torch.empty(0, dtype=graph.dtype).numpy().dtype
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = {}
        with torch.no_grad():
            values = graph.trace(torch.zeros(1, *graph.input_shape, dtype=graph.dtype, device=_device(graph)))
        self.shapes = {name: tuple(value.shape) for name, value in values.items()}
        self.names = {graph.input: input_name}
        for node in graph.nodes:
            self.names[node.name] = WRITERS[node.op](self, [self._given(i) for i in node.inputs], node)
        self._append("Identity", [self.names[graph.output]], output_name, {})

    def add(self, op: str, inputs: list[str], **attrs: Any) -> str:
        """Append an ONNX node and give the name of its output."""
        return self._append(op, inputs, f"{op}_{len(self.nodes)}", attrs)

    def _append(self, op: str, inputs: list[str], output: str, attrs: dict[str, Any]) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=f"node_{len(self.nodes)}", **attrs))
        return output

    def ints(self, values: Any) -> str:
        """A stored list of integers."""
        return self._store(np.asarray(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A stored number in the graph's float type."""
        return self._store(np.asarray(value, dtype=self.float_type))

    def array(self, value: np.ndarray) -> str:
        """A stored array."""
        return self._store(value)

    def rank(self, name: str) -> int:
        """How many axes a value or constant has, the batch included."""
        return len(self.shapes[name]) if name in self.shapes else self.graph.constant(name).dim()

    def constant(self, name: str) -> np.ndarray:
        """A constant of the graph."""
        return self.graph.constant(name).detach().cpu().numpy()

    def _given(self, name: str) -> str:
        return self._store(self.constant(name), f"c_{name}") if self.graph.is_constant(name) else self.names[name]

    def _store(self, value: np.ndarray, key: str | None = None) -> str:
        from onnx import numpy_helper

        name = key or f"stored_{len(self.stored)}"
        if name not in self.stored:
            self.stored[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name


def _device(graph: Graph) -> torch.device:
    return next((c.device for c in graph.buffers()), torch.device("cpu"))
