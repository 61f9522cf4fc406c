"""Graphs as layers that learn: the same function, and the weights that should move do."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from withstand.builtin.models import INPUT_SHAPE, builtin_model
from withstand.core.errors import InputError
from withstand.graph.capture import capture, from_module
from withstand.graph.ir import Graph, Node
from withstand.graph.model import Model
from withstand.hardening.layers import Layers
from withstand.hardening.trainable import trainable
from withstand.io.models import load_model


class Branches(nn.Module):
    """Normalisation, a residual block, a product with a fixed matrix on the left, layer normalisation and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.mix = nn.Parameter(torch.randn(5, 6))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(80, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.4) / 0.3
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x) + x)
        x = self.up(x)[:, :, ::2, ::2].reshape(len(x), 3, 16)
        x = torch.cat([x, x.flip(1)], 1)
        x = self.norm(torch.matmul(self.mix, x))
        return self.head(x.flatten(1))


@cache
def branches() -> tuple[Branches, Model]:
    """The module, and a model that has its graph only."""
    torch.manual_seed(0)
    module = Branches()
    graph = capture(module.eval(), (2, 4, 4))
    return module, Model("net", graph, graph, graph.input_shape, graph.output_shape)


def test_a_graph_with_branches_keeps_its_outputs_and_gradients() -> None:
    source, model = branches()
    module = trainable(model)
    x = torch.rand(5, 2, 4, 4, requires_grad=True)
    torch.testing.assert_close(module(x), source(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(copy.deepcopy(module)(x), module(x))
    slopes = [torch.autograd.grad(part(x).square().sum(), x)[0] for part in (module, source)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
    assert isinstance(module, Layers)
    kinds = {type(part) for part in module.modules()}
    assert {nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU} <= kinds


def test_the_weights_learn_and_the_constants_before_the_first_layer_stay() -> None:
    source, model = branches()
    module = trainable(model)
    names = set(dict(module.named_parameters()))
    sizes = sorted(p.numel() for p in module.parameters())
    layers = (source.first, source.second, source.up, source.head)
    assert sizes == sorted([p.numel() for layer in layers for p in layer.parameters()] + [30])
    fixed = {name: value.clone() for name, value in module.named_buffers()}
    assert any(torch.allclose(value, torch.tensor(0.4)) for value in fixed.values())
    optimiser = torch.optim.SGD(module.parameters(), 0.05)
    x, y = torch.rand(30, 2, 4, 4), torch.arange(30) % 3
    before = {name: value.clone() for name, value in module.named_parameters()}
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert moved == names
    assert all(torch.equal(value, fixed[name]) for name, value in module.named_buffers())


def test_a_weight_that_two_nodes_share_stays_shared() -> None:
    nodes = [
        Node("a", "linear", ("x", "w", "b")),
        Node("r", "relu", ("a",)),
        Node("o", "linear", ("r", "w", "b")),
    ]
    torch.manual_seed(0)
    constants = {"w": torch.randn(3, 3), "b": torch.randn(3)}
    module = Layers(Graph(nodes, constants, input="x", output="o", input_shape=(3,), output_shape=(3,)))
    assert len(list(module.parameters())) == 2
    x = torch.rand(2, 3)
    again = torch.relu(x @ constants["w"].T + constants["b"]) @ constants["w"].T + constants["b"]
    torch.testing.assert_close(module(x), again)


def test_what_is_added_to_a_product_learns_and_other_addends_do_not() -> None:
    nodes = [
        Node("n", "sub", ("x", "mean")),
        Node("p", "matmul", ("n", "w")),
        Node("s", "add", ("p", "bias")),
        Node("r", "relu", ("s",)),
        Node("o", "add", ("r", "offset")),
    ]
    constants = {"mean": torch.rand(3), "w": torch.randn(3, 4), "bias": torch.rand(4), "offset": torch.rand(4)}
    module = Layers(Graph(nodes, constants, input="x", output="o", input_shape=(3,), output_shape=(4,)))
    assert sorted(tuple(p.shape) for p in module.parameters()) == [(3, 4), (4,)]
    assert any(torch.equal(p, constants["bias"]) for p in module.parameters())


def test_an_onnx_file_trains_and_can_be_captured_again(shared: Path) -> None:
    model = load_model(str(shared / "models" / "mnist-cnn-a-adv.onnx"))
    module = trainable(model)
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(module(x), model(x))
    assert sum(p.numel() for p in module.parameters()) == 166406
    torch.testing.assert_close(capture(module, (1, 28, 28))(x), model(x))


def test_a_module_with_weights_is_copied_and_the_given_one_stays() -> None:
    given = builtin_model("digits-cnn").requires_grad_(False)
    module = trainable(from_module(given, INPUT_SHAPE))
    assert type(module) is nn.Sequential
    assert all(p.requires_grad for p in module.parameters())
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert next(given.parameters()).abs().sum() > 0
    given[0].weight.requires_grad_(True)  # what the user froze in part stays so
    module = trainable(from_module(given, INPUT_SHAPE))
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["0.weight"]


def test_a_model_without_weights_is_refused() -> None:
    model = from_module(nn.Sequential(nn.ReLU(), nn.Flatten()), (1, 2, 2))
    with pytest.raises(InputError, match="has no weights that can learn"):
        trainable(model)
