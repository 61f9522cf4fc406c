"""ONNX networks of float64 are read with every constant exact, and their operators computed in float64."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_case import network, node

from withstand.core.errors import InputError
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.replay import OnnxSession

W = np.random.default_rng(0).normal(size=(4, 3))

CASES = {
    "gemm": ([node("Gemm", "x w b", alpha=0.3, beta=0.7)], {"w": W, "b": W[0]}),
    "batch normalisation": (
        [node("BatchNormalization", "x s b m v", epsilon=1e-3)],
        {"s": W[:, 0], "b": W[:, 1], "m": W[:, 2], "v": W[:, 0] ** 2},
    ),
    "activations": ([node("LeakyRelu", "x", "a", alpha=0.3), node("Sigmoid", "a", "c"), node("Tanh", "c")], {}),
    "no constants": ([node("Relu", "x")], {}),
    "mean": ([node("ReduceMean", "x", axes=[1])], {}),
    "division": ([node("Div", "x d")], {"d": np.array(3.0)}),
    "folded": ([node("Exp", "w", "e"), node("MatMul", "x e")], {"w": W}),
}


@pytest.mark.parametrize(("nodes", "held"), CASES.values(), ids=CASES)
def test_operators_agree_with_onnxruntime_to_float64(nodes, held):
    data = network(nodes, [None, 4], held, kind=TensorProto.DOUBLE)
    model = read_onnx(data)
    assert model.graph is not None
    assert (model.graph.dtype, model.dtype) == (torch.float64, torch.float64)
    x = np.random.default_rng(1).normal(size=(5, 4))
    with torch.no_grad():
        ours = model(torch.tensor(x)).numpy()
    theirs = OnnxSession(data)(x)
    assert ours.dtype == theirs.dtype == np.float64
    assert ours == pytest.approx(theirs, rel=1e-13, abs=1e-13)
    again = read_onnx(model.onnx_bytes())
    assert again.graph is not None
    assert again.graph.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "to"), [(TensorProto.FLOAT, TensorProto.DOUBLE), (TensorProto.DOUBLE, TensorProto.FLOAT)]
)
def test_a_network_of_two_types_is_refused(kind, to):
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=to), node("Relu", "c", "r")]
    nodes += [helper.make_node("Cast", ["r"], ["y"], to=kind)]
    with pytest.raises(InputError, match="export it in one float type throughout"):
        read_onnx(network(nodes, [None, 4], kind=kind))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_cast_to_the_own_type_changes_nothing(kind):
    data = network([helper.make_node("Cast", ["x"], ["c"], to=kind), node("Relu", "c")], [None, 4], kind=kind)
    assert read_onnx(data).graph is not None


@pytest.mark.parametrize(("kind", "size"), [(TensorProto.FLOAT, 2.0**25), (TensorProto.DOUBLE, 2.0**50)])
def test_sums_that_cancel_are_no_fault_of_the_reading(kind, size):
    """Rounded in another order they differ by more than their results are exact to."""
    rng = np.random.default_rng(4)
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    w, v = rng.normal(size=(6, 4)), rng.normal(size=(1, 6))
    held = {"w": w, "b": size + rng.normal(size=6), "v": v, "c": -size * v.sum(1)}
    nodes = [node("Gemm", "x w b", "a", transB=1), node("Relu", "a", "r"), node("Gemm", "r v c", "y", transB=1)]
    data = network(nodes, [None, 4], {name: value.astype(dtype) for name, value in held.items()}, kind=kind)
    assert read_onnx(data).graph is not None
