"""Every canonical operation goes through the writer, onnxruntime and the reader, and stays the same function."""

import numpy as np
import pytest
import torch
from torch import Tensor

from withstand.graph.ir import Graph, Node
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.onnx_writer import write_onnx
from withstand.graph.ops import OPS
from withstand.graph.replay import OnnxSession

torch.manual_seed(0)
CONV = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
POOL = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0)}
IMAGE, ROW = (4, 7, 6), (5,)

# op -> list of (input shape, constants in place (None: the input), attributes)
CASES: dict[str, list[tuple[tuple[int, ...], list[Tensor | None], dict]]] = {
    "linear": [
        (ROW, [None, torch.randn(3, 5), torch.randn(3)], {}),
        ((2, 5), [None, torch.randn(3, 5), torch.randn(3)], {}),
        ((2, 5), [None, torch.randn(3, 5)], {}),
    ],
    "conv": [
        (IMAGE, [None, torch.randn(6, 2, 3, 2), torch.randn(6)], CONV),
        ((3, 9), [None, torch.randn(2, 3, 3)], {"stride": (2,), "padding": (1,), "dilation": (1,), "groups": 1}),
        (
            (1, 4, 4, 4),
            [None, torch.randn(2, 1, 2, 2, 2)],
            {"stride": (1, 1, 1), "padding": (0, 0, 0), "dilation": (1, 1, 1), "groups": 1},
        ),
    ],
    "conv_transpose": [
        (
            IMAGE,
            [None, torch.randn(4, 3, 3, 2), torch.randn(6)],
            {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0), "dilation": (1, 1), "groups": 2},
        )
    ],
    "add": [(IMAGE, [None, torch.randn(4, 1, 1)], {}), (IMAGE, [None, None], {})],
    "sub": [(ROW, [torch.randn(5), None], {}), (ROW, [None, torch.randn(5)], {})],
    "mul": [(IMAGE, [None, torch.randn(7, 6)], {})],
    "div": [(ROW, [None, torch.rand(5) + 0.5], {})],
    "matmul": [((2, 3), [torch.randn(4, 2), None], {}), ((3, 3), [None, None], {})],
    "max": [(ROW, [None, torch.zeros(5)], {})],
    "min": [(ROW, [None, torch.zeros(5)], {})],
    "where": [(ROW, [torch.tensor([True, False, True, False, True]), None, torch.randn(5)], {})],
    "leaky_relu": [(ROW, [None], {"slope": 0.2})],
    "elu": [(ROW, [None], {"alpha": 0.7})],
    "gelu": [(ROW, [None], {"approximate": "none"}), (ROW, [None], {"approximate": "tanh"})],
    "pow": [(ROW, [None], {"exponent": 2.0}), (ROW, [None], {"exponent": 3.0})],
    "clip": [(ROW, [None], {"low": -0.5, "high": 0.5}), (ROW, [None], {"high": 0.5}), (ROW, [None], {"low": -0.1})],
    "max_pool": [
        (IMAGE, [None], {**POOL, "dilation": (1, 2), "ceil_mode": False}),
        (IMAGE, [None], {**POOL, "dilation": (1, 1), "ceil_mode": True}),
    ],
    "avg_pool": [
        (IMAGE, [None], {**POOL, "ceil_mode": False, "count_include_pad": True}),
        (IMAGE, [None], {**POOL, "ceil_mode": False, "count_include_pad": False}),
    ],
    "mean": [(IMAGE, [None], {"dims": (2, 3), "keepdim": True}), (IMAGE, [None], {"dims": (1,), "keepdim": False})],
    "sum": [(IMAGE, [None], {"dims": (2, 3), "keepdim": False})],
    "softmax": [(IMAGE, [None], {"dim": 1})],
    "log_softmax": [(ROW, [None], {"dim": 1})],
    "reshape": [(IMAGE, [None], {"shape": (28, 6)})],
    "transpose": [(IMAGE, [None], {"perm": (0, 3, 1, 2)})],
    "concat": [(IMAGE, [None, torch.randn(1, 2, 7, 6), None], {"dim": 1})],
    "slice": [(IMAGE, [None], {"dim": 2, "start": 1, "stop": 6, "step": 2})],
    "gather": [
        (IMAGE, [None, torch.tensor([[3, 0], [1, 1]])], {"dim": 1}),
        (IMAGE, [None, torch.tensor(2)], {"dim": 2}),
    ],
    "pad": [
        (IMAGE, [None], {"pads": (1, 2, 0, 3), "value": 0.5}),
        (IMAGE, [None], {"pads": (1, 2, 0, 3), "mode": "reflect"}),
        (IMAGE, [None], {"pads": (1, 2, 0, 3), "mode": "replicate"}),
    ],
    "expand": [((1, 3), [None], {"shape": (4, 3)}), ((1, 3), [None], {"shape": (2, 4, 3)})],
}
CASES |= {op: [(ROW, [None], {})] for op in OPS if op not in CASES}
POSITIVE = ("log", "sqrt", "reciprocal")
CHECKED = [(op, position) for op in OPS for position in range(len(CASES[op]))]


def graph_of(op: str, position: int) -> Graph:
    shape, places, attrs = CASES[op][position]
    names = ["x" if value is None else f"k{i}" for i, value in enumerate(places)]
    constants = {f"k{i}": value for i, value in enumerate(places) if value is not None}
    node = Node("y", op, tuple(names), attrs)
    probe = [torch.rand(2, *shape) if value is None else value for value in places]
    output_shape = tuple(OPS[op].run(*probe, **attrs).shape[1:])
    return Graph([node], constants, input="x", output="y", input_shape=shape, output_shape=output_shape)


@pytest.mark.parametrize(("op", "position"), CHECKED)
def test_operation_survives_the_round_trip(op, position):
    graph = graph_of(op, position)
    data = write_onnx(graph)
    again = read_onnx(data)
    session = OnnxSession(data)
    assert session.input_name == "input"
    assert session.rows == 0
    for batch in (1, 5):
        x = torch.rand(batch, *graph.input_shape) + 0.1 if op in POSITIVE else torch.randn(batch, *graph.input_shape)
        y = graph(x)
        assert y.shape == (batch, *graph.output_shape)
        np.testing.assert_allclose(session(x.numpy()), y.numpy(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again(x), y, rtol=1e-4, atol=1e-5)


def test_double_precision_graphs_are_written_in_double():
    graph = graph_of("linear", 0).double()
    session = OnnxSession(write_onnx(graph))
    x = torch.randn(3, 5, dtype=torch.float64)
    assert session.dtype == np.float64
    np.testing.assert_allclose(session(x.numpy()), graph(x).numpy(), rtol=1e-12)


def test_digest_is_that_of_the_function_not_of_its_names():
    graph = graph_of("linear", 0)
    renamed = read_onnx(write_onnx(graph), name="other").graph
    assert renamed is not None
    assert renamed.digest() == graph.digest()
    assert graph_of("linear", 1).digest() != graph.digest()
