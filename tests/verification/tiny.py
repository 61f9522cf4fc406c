"""Small ReLU networks, and the exact least margin over a box by one linear program for every pattern of ReLU phases."""

from collections.abc import Generator
from itertools import pairwise, product
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from withstand.core.property import Linear
from withstand.graph.ir import Graph, Node

T = TypeVar("T")


def relu_net(weights: list[Tensor], biases: list[Tensor]) -> Graph:
    """The graph of affine maps with ReLU in between."""
    nodes, constants, last = [], {}, "x"
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants |= {f"w{i}": weight, f"b{i}": bias}
        nodes.append(Node(f"z{i}", "linear", (last, f"w{i}", f"b{i}")))
        last = f"z{i}"
        if i < len(weights) - 1:
            nodes.append(Node(f"a{i}", "relu", (last,)))
            last = f"a{i}"
    shapes = (weights[0].shape[1],), (weights[-1].shape[0],)
    return Graph(nodes, constants, input="x", output=last, input_shape=shapes[0], output_shape=shapes[1])


def random_net(sizes: list[int], seed: int, dtype: torch.dtype = torch.float64) -> Graph:
    """A random network of these layer sizes."""
    made = torch.Generator().manual_seed(seed)
    weights = [torch.randn(b, a, generator=made, dtype=dtype) / a**0.5 for a, b in pairwise(sizes)]
    return relu_net(weights, [torch.randn(b, generator=made, dtype=dtype) / 3 for b in sizes[1:]])


def distance_net(dtype: torch.dtype = torch.float64) -> Graph:
    """y = relu(x0 - x1) + relu(x1 - x0) = |x0 - x1|."""
    weights = [torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=dtype), torch.ones(1, 2, dtype=dtype)]
    return relu_net(weights, [torch.zeros(2, dtype=dtype), torch.zeros(1, dtype=dtype)])


def random_rows(outputs: int, groups: list[int], seed: int) -> Linear:
    """A property of random rows, so many in each group."""
    made = torch.Generator().manual_seed(seed)
    count = sum(groups)
    weight = torch.randn(count, outputs, generator=made, dtype=torch.float64)
    offset = torch.randn(count, generator=made, dtype=torch.float64) / 2 + 0.5
    return Linear(weight, offset, torch.arange(len(groups)).repeat_interleave(torch.tensor(groups)))


def exact_least_margin(graph: Graph, property: Linear, low: Tensor, high: Tensor) -> float:
    """The least margin over the box low, high [n] (float64, to the accuracy of linear programming)."""
    maps = [
        (graph.constant(f"w{i}").numpy(), graph.constant(f"b{i}").numpy()) for i in range((len(graph.nodes) + 1) // 2)
    ]
    hidden = sum(len(bias) for _, bias in maps[:-1])
    bounds = [*zip(low.tolist(), high.tolist(), strict=True), (None, None)]
    least = np.inf
    for pattern in product((0.0, 1.0), repeat=hidden):
        slope, constant = np.eye(len(low)), np.zeros(len(low))
        signs, edges, phases = [], [], list(pattern)
        for weight, bias in maps[:-1]:
            slope, constant = weight @ slope, weight @ constant + bias
            phase, phases = np.array(phases[: len(bias)]), phases[len(bias) :]
            signs.append((1 - 2 * phase)[:, None] * slope)  # active: -(s x + c) <= 0; inactive: s x + c <= 0
            edges.append(-(1 - 2 * phase) * constant)
            slope, constant = phase[:, None] * slope, phase * constant
        slope, constant = maps[-1][0] @ slope, maps[-1][0] @ constant + maps[-1][1]
        for group in property.group.unique():
            chosen = property.group == group
            rows, offset = property.weight[chosen].numpy(), property.offset[chosen].numpy()
            least = min(least, _least(rows @ slope, rows @ constant + offset, signs, edges, bounds))
    return least


def _least(rows: np.ndarray, offset: np.ndarray, signs: list, edges: list, bounds: list) -> float:
    """min t with rows x + offset <= t inside the phases: inf where no input has them."""
    from scipy.optimize import linprog

    phases = np.concatenate(signs)
    left = np.block([[phases, np.zeros((len(phases), 1))], [rows, -np.ones((len(rows), 1))]])
    right = np.concatenate([*edges, -offset])
    found = linprog([0.0] * rows.shape[1] + [1.0], A_ub=left, b_ub=right, bounds=bounds)
    return found.fun if found.success else np.inf


def finished(steps: Generator[Any, None, T]) -> T:
    """What a generator returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
