"""Every method on random graphs of most operators, by sampling: rows and inner boxes, before and after simplifying."""

import pytest
import torch
from nets import graph, points
from randoms import random_graph

from withstand.bounds import lower_bound, prepare
from withstand.core.balls import L1, L2, Linf
from withstand.core.property import Rows
from withstand.graph.ir import Node
from withstand.graph.simplify import simplify

METHODS = ("ibp", "crown", "crown-ibp", "forward", "zonotope")
COUNT = 200


def check(seed: int) -> None:
    model, made = random_graph(seed), torch.Generator().manual_seed(seed)
    model = simplify(model) if seed % 2 else model
    x0 = torch.randn(2, *model.input_shape, generator=made, dtype=model.dtype) * (0.3, 1.0, 3.0)[seed % 3]
    threat = (Linf, L2, L1)[seed // 3 % 3]((0.0, 1e-6, 0.01, 0.1, 0.5, 2.0)[seed // 9 % 6], (-100.0, 100.0))
    weight = torch.randn(2, 3, 2, generator=made, dtype=model.dtype)
    rows = Rows(weight, torch.zeros(2, 3, dtype=model.dtype), torch.arange(3))
    values = model.trace(points(threat, x0, COUNT, seed))
    seen = torch.einsum("bro,kbo->kbr", weight, values[model.output].reshape(COUNT, 2, 2)).amin(0)
    if not all(bool(value.isfinite().all()) for value in values.values()):
        return
    largest = max(float(value.abs().amax()) for value in values.values())
    room = 1e5 * torch.finfo(model.dtype).eps * (1 + largest)
    plain = prepare("ibp", model, threat, x0).lower(rows)
    for method in METHODS:
        found = prepare(method, model, threat, x0)
        bound = found.lower(rows)
        assert bool((bound <= seen + room).all()), (seed, method)
        assert bool((bound >= plain - room - 1e-6 * plain.abs()).all()), (seed, method, "looser than intervals")
        for name, (low, high) in found.boxes.items():
            value = values[name].reshape(COUNT, 2, *low.shape[1:])
            assert bool(((value >= low - room) & (value <= high + room)).all()), (seed, method, name)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_bounds_hold_on_random_graphs(first):
    for seed in range(first, first + 20):
        check(seed)


def test_a_bound_that_overflows_is_none():
    """exp(exp(x)) from x = 5 on is no number of float32; its lower bound, which is infinite too, proves nothing."""
    nodes = [Node("a", "exp", ("x",)), Node("y", "exp", ("a",))]
    rows = Rows(torch.ones(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    for method in METHODS:
        bound = lower_bound(method, graph(nodes, {}, (1,)), Linf(0.1, (0.0, 9.0)), torch.full((1, 1), 5.0), rows)
        assert bound.tolist() == [[-torch.inf]]


@pytest.mark.slow
def test_bounds_hold_on_many_random_graphs():
    for seed in range(60, 3000):
        check(seed)
