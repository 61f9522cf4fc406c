"""What the bound methods owe each other: closed forms, references written out by hand, orderings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import dense, graph, points, slack
from torch import Tensor

from withstand.bounds import lower_bound, prepare
from withstand.bounds.linear import Relaxation, least
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.property import Argmax, Rows
from withstand.graph.ir import Graph, Node

WIDE = (-100.0, 100.0)


def labels(count: int, outputs: int = 3) -> Rows:
    return Argmax().rows(torch.arange(count) % outputs, outputs, torch.float64)


def start(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def deepz(model: Graph, low: Tensor, high: Tensor) -> tuple[Tensor, bool]:
    """Least outputs [O] of a dense ReLU network by zonotopes carried forward (Singh et al. 2018), and whether they are
    tighter than intervals at every unstable neuron."""
    centre, generators = (low + high) / 2, torch.diag((high - low) / 2)
    box, tighter, layers = (low, high), True, len(model.nodes) // 2
    for i in range(layers + 1):
        weight, bias = model.constant(f"w{i}"), model.constant(f"b{i}")
        centre, generators = weight @ centre + bias, generators @ weight.T
        middle, half = weight @ (box[0] + box[1]) / 2 + bias, weight.abs() @ (box[1] - box[0]) / 2
        reach = generators.abs().sum(0)
        below, above = centre - reach, centre + reach
        unstable = (below < 0) & (above > 0)
        wider = (middle - half <= below + 1e-12) & (middle + half >= above - 1e-12)
        tighter &= bool((wider | ~unstable | (i == layers)).all())
        if i < layers:
            slope = torch.where(below >= 0, 1.0, torch.where(above <= 0, 0.0, above / (above - below)))
            error = torch.where(unstable, -slope * below / 2, 0.0)
            centre, generators = slope * centre + error, torch.cat([generators * slope, torch.diag(error)])
            box = (below.clamp(min=0), above.clamp(min=0))
    return centre - generators.abs().sum(0), tighter


def test_zonotopes_are_deepz():
    """The same numbers as by generators, wherever intervals have nothing to add."""
    rows, compared = Rows(torch.eye(3).double()[None], torch.zeros(1, 3).double(), torch.arange(3)), 0
    for seed in range(12):
        model, x0, threat = dense([4, 9, 7, 6, 3], seed=seed), start(1, 4, seed), Linf(0.05 + 0.02 * seed, WIDE)
        expected, tighter = deepz(model, *(end[0] for end in threat.box(x0)))
        found = prepare("zonotope", model, threat, x0)
        relaxation = found.relaxation  # type: ignore[union-attr]
        if tighter:
            assert torch.allclose(least(relaxation, "z3", rows.weight)[0], expected)
            compared += 1
        assert bool((found.lower(rows)[0] >= least(relaxation, "z3", rows.weight)[0]).all())
    assert compared > 5


def test_the_known_zonotope_of_one_relu():
    """x in [-1, 1] gives [-0.5, 1] (Singh et al. 2018); the box alone knows [0, 1]."""
    model = graph([Node("y", "relu", ("x",))], {}, (1,))
    threat, x0 = Box(lower=torch.tensor([-1.0]), upper=torch.tensor([1.0])), torch.zeros(1, 1)
    relaxation = Relaxation(model, threat, x0, {"x": threat.box(x0), "y": (x0, x0 + 1)}, "parallel")
    below, above = least(relaxation, "y", torch.tensor([[[1.0], [-1.0]]]))[0].tolist()
    assert [below, -above] == [-0.5, 1.0]


@pytest.mark.parametrize("method", ["crown", "crown-ibp", "forward", "zonotope"])
def test_two_copies_of_one_affine_form_cancel(method):
    """y1 = y2 = a + b passed through identity layers: y1 - y2 is 0; boxes say [-4, 4]."""
    nodes = [
        Node("y1", "linear", ("x", "w")),
        Node("y2", "linear", ("x", "w")),
        Node("y", "sub", ("y1", "y2")),
    ]
    model = graph(nodes, {"w": torch.ones(1, 2)}, (2,))
    rows = Rows(torch.tensor([[[1.0], [-1.0]]]), torch.zeros(1, 2), torch.arange(2))
    assert lower_bound(method, model, Linf(1.0, WIDE), torch.zeros(1, 2), rows).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("threat", [Linf(0.3, WIDE), L2(0.5, WIDE), L1(0.7, WIDE)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sin"])
def test_with_one_hidden_layer_all_linear_bounds_are_the_same(activation, threat):
    """The first layer's bounds are exact for all of them, and the lines are the same."""
    model, x0, rows = dense([3, 8, 3], activation), start(4, 3), labels(4)
    crown, crown_ibp, forward = (
        lower_bound(method, model, threat, x0, rows) for method in ("crown", "crown-ibp", "forward")
    )
    assert torch.allclose(crown, crown_ibp)
    assert bool(
        (forward >= crown - 1e-9).all()
    )  # its boxes behind the layer are tighter, where rows are bounded by boxes
    assert float((forward - crown).median()) < 1e-9


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    radius=st.sampled_from([0.05, 0.5, 3.0]),
    activation=st.sampled_from(["relu", "tanh", "silu", "cos"]),
    threat=st.sampled_from([Linf, L2, L1]),
)
def test_no_method_is_looser_than_intervals(seed, radius, activation, threat):
    """Every box and row is intersected with the bounds it started from, however wide the threat."""
    model, x0, rows = dense([3, 8, 8, 8, 3], activation, seed), start(2, 3, seed), labels(2)
    at = threat(radius, WIDE)
    plain = prepare("ibp", model, at, x0)
    told = plain.lower(rows)
    for method in ("crown", "crown-ibp", "forward", "zonotope"):
        found = prepare(method, model, at, x0)
        assert bool((found.lower(rows) >= told - slack(told)).all()), method
        for name, (low, high) in found.boxes.items():
            room = slack(plain.boxes[name][0])
            assert bool((low >= plain.boxes[name][0] - room).all()), (method, name)
            assert bool((high <= plain.boxes[name][1] + room).all()), (method, name)


def test_forward_bounds_hold_at_every_point_and_not_only_at_the_worst():
    """The affine functions themselves are below and above the network everywhere in the box."""
    model, x0 = dense([2, 10, 10, 3], "tanh"), start(3, 2)
    threat = Linf(0.4, WIDE)
    found = prepare("forward", model, threat, x0)
    between = found.chunks[0].between["a1"]  # type: ignore[union-attr]
    x = points(threat, x0, 100).reshape(100, 3, 2)
    homogeneous = torch.cat([x, torch.ones(100, 3, 1, dtype=x.dtype)], 2)
    values = model.trace(x.reshape(300, 2))["a1"].reshape(100, 3, 10)
    assert bool((torch.einsum("kbn,bno->kbo", homogeneous, between.lower) <= values + 1e-12).all())
    assert bool((torch.einsum("kbn,bno->kbo", homogeneous, between.upper) >= values - 1e-12).all())


def test_forward_bounds_do_not_depend_on_the_memory():
    model, x0, rows = dense([3, 30, 30, 3]), start(20, 3), labels(20)
    large, small = (prepare("forward", model, Linf(0.2, WIDE), x0, memory_mb=mb) for mb in (1024, 0.05))
    assert len(large.chunks) < len(small.chunks)  # type: ignore[union-attr]
    assert torch.allclose(large.lower(rows), small.lower(rows))
    for name, ends in large.boxes.items():
        assert all(torch.allclose(a, b) for a, b in zip(ends, small.boxes[name], strict=True))
