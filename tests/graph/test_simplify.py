"""Products that are powers of one value, however they are written, and values that are computed twice."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from withstand.bounds import prepare
from withstand.core.balls import Linf
from withstand.graph.capture import capture
from withstand.graph.ir import Graph, Node
from withstand.graph.simplify import simplify


class Of(nn.Module):
    """A function of two numbers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], list[str], float, float]] = {
    "x * x": (lambda x: x * x, ["pow"], 0, 1),
    "square": (torch.square, ["pow"], 0, 1),
    "x ** 2": (lambda x: x**2, ["pow"], 0, 1),
    "reshaped": (lambda x: x.flatten(1) * x, ["pow"], 0, 1),
    "0.5 x * x": (lambda x: 0.5 * x * x, ["pow", "mul"], 0, 0.5),
    "x * 0.5 x": (lambda x: x * (0.5 * x), ["pow", "mul"], 0, 0.5),
    "-x * x": (lambda x: -x * x, ["pow", "mul"], -1, 0),
    "-x * -x": (lambda x: (-x) * (-x), ["pow"], 0, 1),
    "x * x * x": (lambda x: x * x * x, ["pow"], -1, 1),
    "x * x * x * x": (lambda x: x * x * x * x, ["pow"], 0, 1),
    "tanh twice": (lambda x: torch.tanh(x) * torch.tanh(x), ["tanh", "pow"], 0, 0.58003),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_power_is_known_as_one(form):
    function, ops, low, high = FORMS[form]
    graph = capture(Of(function), (2,))
    assert [node.op for node in graph.nodes] == ops
    x = torch.linspace(-1, 1, 20).reshape(10, 2)
    assert torch.allclose(graph(x), function(x), atol=1e-6)
    for method in ("ibp", "crown", "zonotope", "forward"):
        below, above = prepare(method, graph, Linf(1.0, (-1, 1)), torch.zeros(1, 2)).boxes[graph.output]  # type: ignore[arg-type]
        assert below.tolist() == [[pytest.approx(low, abs=1e-4)] * 2]
        assert above.tolist() == [[pytest.approx(high, abs=1e-4)] * 2]


def test_what_is_computed_twice_is_computed_once():
    made = torch.Generator().manual_seed(1)
    constants = {"w": torch.randn(3, 2, generator=made), "two": torch.tensor(2.0)}
    nodes = [
        Node("a", "linear", ("x", "w")),
        Node("b", "relu", ("a",)),
        Node("c", "linear", ("x", "w")),
        Node("d", "relu", ("c",)),
        Node("e", "mul", ("d", "two")),
        Node("y", "sub", ("b", "e")),
    ]
    graph = Graph(nodes, constants, input="x", output="y", input_shape=(2,), output_shape=(3,))
    simple = simplify(graph)
    assert [node.op for node in simple.nodes] == ["linear", "relu", "mul", "sub"]
    x = torch.randn(5, 2, generator=made)
    assert torch.equal(simple(x), graph(x))
