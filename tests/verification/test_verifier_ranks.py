"""Every verifier on samples, inner values and outputs without axes, or with axes of size 1, of modules and files."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax, Band
from withstand.core.registry import build, components
from withstand.core.rng import RowRandom
from withstand.graph.capture import from_module
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.replay import OnnxSession
from withstand.verification.search import search

VERIFIERS = [name for name in components("verifier") if name != "lipschitz"]
EVIDENCE = 12


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] * x[:, 1], x[:, 0] - x[:, 1]], 1)


class Summed(nn.Module):
    """A sum over features into a ReLU, and what becomes of it beside other numbers."""

    def forward(self, x: Tensor) -> Tensor:
        t, u = torch.relu(x.sum(1) - 0.5), torch.sigmoid(x[:, 0])
        return torch.stack([t * u, torch.maximum(t, u), t / (1 + u), torch.exp(-t).abs() - u**2], 1)


class Spread(nn.Module):
    """A number per sample that is spread over rows again."""

    def forward(self, x: Tensor) -> Tensor:
        t = torch.tanh(x.mean(1))
        return x * t[:, None] + torch.minimum(t, x[:, 1])[:, None]


class Number(nn.Module):
    """One number per sample in, one out."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x - 0.3) - torch.abs(x) * 0.5


def settle(model, x0, y, threat, property, name):
    judge = Judge(model, None, x0, y, threat, property)
    heard = iter(range(EVIDENCE))
    search(judge, model, [build("verifier", name)], enough=lambda: next(heard, None) is None)
    many = x0.repeat(200, *(1,) * (x0.dim() - 1))
    points = threat.sample(many, RowRandom(torch.arange(len(many))))
    least = property.margin(model(points), y.repeat(200)).reshape(200, -1).amin(0)
    assert bool((judge.bound <= least + 1e-6).all()), name
    return judge


@pytest.mark.parametrize("name", VERIFIERS)
@pytest.mark.parametrize("module", [Product(), Summed(), Spread()], ids=lambda m: type(m).__name__)
def test_a_number_per_sample_may_feed_anything(module, name):
    graph = from_module(module, (2,)).graph
    assert graph is not None
    x0 = torch.tensor([[0.9, 0.2], [0.3, 0.8], [0.7, 0.6]])
    y = graph(x0).argmax(1)
    for threat in (Linf(0.01), L2(0.01), L1(0.01)):
        assert settle(graph, x0, y, threat, Argmax(), name).status.count(Status.PROVED) >= 2


@pytest.mark.parametrize("name", VERIFIERS)
def test_inputs_and_outputs_may_be_numbers(name):
    graph = from_module(Number(), ()).graph
    assert graph is not None
    assert graph.input_shape == ()
    x0 = torch.tensor([0.1, 0.5, 0.9])
    y = graph(x0)[:, 0]
    for threat in (Linf(0.05), L2(0.05), L1(0.05), Box(lower=torch.tensor(0.2), upper=torch.tensor(0.25))):
        width = 0.1 if threat.norm != "box" else 1.0
        judge = settle(graph, x0, y, threat, Band(width), name)
        assert set(judge.status) == {Status.PROVED}


FILES = {
    "none": ([], []),
    "one": ([1], [1]),
    "matrix": ([1, 1], [1, 1]),
    "image": ([1, 1, 1, 1], [1, 1, 1, 1]),
    "open": (["N"], ["N"]),
    "open matrix": (["N", 1], ["N", 1]),
    "row": ([3], [3]),
}


def file_of(shape: list, out: list) -> bytes:
    """y = relu(2 x - 1), whatever the rank."""
    kind = onnx.TensorProto.FLOAT
    nodes = [("Mul", ["x", "w"], "a"), ("Sub", ["a", "b"], "c"), ("Relu", ["c"], "y")]
    made = helper.make_graph(
        [helper.make_node(op, inputs, [name]) for op, inputs, name in nodes],
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, out)],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("w", 2.0), ("b", 1.0))],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("kind", FILES)
def test_files_of_any_rank_run_and_are_bounded(kind):
    source = file_of(*FILES[kind])
    model = read_onnx(source)
    assert model.graph is not None
    x0 = torch.full((2, *model.input_shape), 0.7)
    assert torch.allclose(model(x0).flatten(), torch.tensor(0.4))
    replayed = OnnxSession(source)(x0.numpy())
    assert replayed.shape == (2, *model.output_shape)
    assert np.allclose(replayed, 0.4)
    for name in ("crown", "branch-and-bound", "input-split", "milp"):
        judge = settle(model.graph, x0, torch.full((2,), 0.4), Linf(0.1), Band(0.3), name)
        assert judge.status == [Status.PROVED] * 2


def test_the_network_whose_lines_had_uneven_shapes(shared):
    path = shared / "cases" / "concatenation.onnx"
    if not path.is_file():
        pytest.skip("the case is not there")
    graph = read_onnx(path).graph
    assert graph is not None
    x0 = torch.rand(2, *graph.input_shape, generator=torch.manual_seed(0)) * 2 - 1
    y = graph(x0).argmax(1)
    for name in ("alpha-crown", "branch-and-bound"):
        settle(graph, x0, y, L2(1.16, (-1.0, 1.0)), Argmax(), name)
