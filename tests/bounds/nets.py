"""Small graphs for the tests of bounds, and points of a threat."""

from itertools import pairwise

import torch
from torch import Tensor

from withstand.core.rng import RowRandom
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node

DTYPES = (torch.float32, torch.float64)


def graph(nodes: list[Node], constants: dict[str, Tensor], input_shape: tuple[int, ...]) -> Graph:
    """A graph from nodes whose first reads `x` and whose last is the output."""
    made = Graph(nodes, constants, input="x", output=nodes[-1].name, input_shape=input_shape, output_shape=())
    with torch.no_grad():
        shape = made(torch.zeros(1, *input_shape, dtype=made.dtype)).shape[1:]
    made.output_shape = tuple(shape)
    return made


def dense(sizes: list[int], activation: str = "relu", seed: int = 0, dtype=torch.float64, **attrs: float) -> Graph:
    """Linear layers of these sizes with an activation between them."""
    made = torch.Generator().manual_seed(seed)
    nodes, constants, last = [], {}, "x"
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        constants[f"w{i}"] = torch.randn(outputs, inputs, generator=made, dtype=dtype) / inputs**0.5
        constants[f"b{i}"] = torch.randn(outputs, generator=made, dtype=dtype) / 4
        nodes.append(Node(f"z{i}", "linear", (last, f"w{i}", f"b{i}")))
        last = f"z{i}"
        if i < len(sizes) - 2:
            nodes.append(Node(f"a{i}", activation, (last,), attrs))
            last = f"a{i}"
    return graph(nodes, constants, (sizes[0],))


def points(threat: Threat, x0: Tensor, count: int = 200, seed: int = 0) -> Tensor:
    """Random points of the threat around each x0, many of them at its edge: [count * B, *shape], x0 by x0 in turn."""
    rng = RowRandom(torch.arange(count * len(x0)) + seed)
    many = x0.repeat(count, *(1,) * (x0.dim() - 1))
    inner = threat.sample(many, rng)
    steps = threat.steepest(torch.randn(many.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype))
    edge = threat.project(many, many + threat.radius * steps)
    return torch.where((torch.arange(len(many)) % 2 == 0).reshape(-1, *(1,) * (x0.dim() - 1)), inner, edge)


def slack(values: Tensor) -> Tensor:
    """Room for rounding in a comparison of values computed in two ways."""
    return 256 * torch.finfo(values.dtype).eps * (1 + values.abs().amax())
