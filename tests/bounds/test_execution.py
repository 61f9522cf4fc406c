"""Radii around what a machine computes, against networks run in several float types."""

import copy

import pytest
import torch
from nets import graph, points
from randoms import random_graph

from withstand.bounds.execution import execution_radius
from withstand.core.balls import Linf
from withstand.graph.ir import Graph, Node
from withstand.graph.replay import OnnxSession
from withstand.graph.simplify import simplified

COUNT = 100


def narrowed(model: Graph, dtype: torch.dtype) -> Graph:
    """The graph with its constants in a float type."""
    return copy.deepcopy(model).to(dtype)


def gap(model: Graph, own: Graph, x: torch.Tensor) -> torch.Tensor:
    """How far a graph run in its own type lies from the same in float64, at points x [K, B, *shape] of its type."""
    flat = x.flatten(0, 1)
    real = narrowed(model, torch.float64)(flat.double())
    return (own(flat).double() - real).abs().reshape(*x.shape[:2], -1)


def check(seed: int, dtype: torch.dtype) -> float:
    """That radii hold on a random graph; how much of them was seen."""
    model = narrowed(random_graph(seed), dtype)
    made = torch.Generator().manual_seed(seed)
    x0 = (torch.randn(2, *model.input_shape, generator=made) * (0.3, 1.0, 3.0)[seed % 3]).to(dtype)
    threat = Linf((0.0, 1e-3, 0.1, 0.5)[seed // 3 % 4], (-100.0, 100.0))
    x = points(threat, x0.float(), COUNT, seed).reshape(COUNT, 2, *model.input_shape).to(dtype)
    low, high = x.amin(0), x.amax(0)
    radius = execution_radius(model, low, high).flatten(1)
    seen = gap(model, model, x).amax(0)
    finite = seen.isfinite()
    assert bool((seen <= radius)[finite].all()), (seed, dtype, float((seen - radius)[finite].max()))
    share = (seen / radius)[finite & (radius > 0)]
    return float(share.max()) if len(share) else 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_radii_hold_on_random_graphs(dtype):
    shares = [check(seed, dtype) for seed in range(40)]
    assert max(shares) > 1e-3, "radii that are never near what is seen say nothing"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_radii_hold_on_many_random_graphs(dtype):
    for seed in range(40, 1500):
        check(seed, dtype)


@pytest.mark.parametrize("seed", range(12))
def test_radii_hold_in_onnxruntime(seed):
    from withstand.graph.onnx_writer import write_onnx

    model = narrowed(random_graph(seed), torch.float32)
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(COUNT, *model.input_shape, generator=made)
    radius = execution_radius(model, x, x).flatten(1)
    ours = narrowed(model, torch.float64)(x.double()).flatten(1)
    theirs = torch.from_numpy(OnnxSession(write_onnx(model))(x.numpy())).double().flatten(1)
    finite = ours.isfinite() & theirs.isfinite()
    assert bool(((ours - theirs).abs() <= radius)[finite].all())


def test_one_sum_is_rounded_by_half_a_unit_in_the_last_place():
    """x + 2^25 is a multiple of 4 in float32: 2 away at most, and so is all that follows exactly."""
    nodes = [Node("a", "add", ("x", "big")), Node("y", "sub", ("a", "big"))]
    model = graph(nodes, {"big": torch.tensor(2.0**25)}, (1,))
    radius = float(execution_radius(model, torch.tensor([[-1.0]]), torch.tensor([[1.0]])))
    assert 2.0 <= radius <= 2.001


def test_what_only_moves_numbers_rounds_nothing():
    nodes = [Node("a", "reshape", ("x",), {"shape": (2, 2)}), Node("b", "transpose", ("a",), {"perm": (0, 2, 1)})]
    nodes += [Node("y", "relu", ("b",))]
    model = graph(nodes, {}, (4,))
    assert float(execution_radius(model, torch.full((1, 4), -1.0), torch.full((1, 4), 3.0)).max()) == 0


def test_a_graph_is_run_as_it_was_before_simplifications():
    """A constant that cancels the bias is folded away, but a machine adds both."""
    nodes = [Node("a", "linear", ("x", "w", "b")), Node("y", "sub", ("a", "b"))]
    constants = {"w": torch.ones(1, 1), "b": torch.tensor([2.0**25])}
    written = graph(nodes, constants, (1,))
    made = simplified(written)
    assert [node.op for node in made.nodes] == ["linear"]
    box = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    assert float(execution_radius(made, *box)) < 1e-6
    assert made.origin is not None
    assert float(execution_radius(made.origin, *box)) >= 2
    assert "origin" not in dict(made.named_modules())
    wide = copy.deepcopy(made).double()
    assert wide.origin is not None
    assert wide.origin.dtype == torch.float32
    assert made.with_constants(made.constants).origin is None


def test_known_boxes_tighten_the_radius():
    nodes = [Node("a", "linear", ("x", "w")), Node("b", "relu", ("a",)), Node("y", "linear", ("b", "w"))]
    model = graph(nodes, {"w": torch.tensor([[1.0, -1.0], [1.0, 1.0]])}, (2,))
    low, high = torch.full((1, 2), 0.0), torch.full((1, 2), 1.0)
    wide = execution_radius(model, low, high)
    known = {"a": (torch.zeros(1, 2, dtype=torch.float64), torch.full((1, 2), 1e-3, dtype=torch.float64))}
    assert bool((execution_radius(model, low, high, known) < wide).all())
