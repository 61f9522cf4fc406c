"""Branch and bound against the exact least margin by enumeration of ReLU phases, and its parts alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import distance_net, exact_least_margin, random_net, random_rows

from withstand.bounds.refine import crown
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax, Linear
from withstand.core.registry import build
from withstand.core.rng import RowRandom
from withstand.graph.ir import Graph, Node
from withstand.verification.branching import Cut, split
from withstand.verification.dual import Ascent, bound, evaluate, start
from withstand.verification.methods.branch_and_bound import BranchAndBound
from withstand.verification.reduced import reduce, settle
from withstand.verification.search import search
from withstand.verification.tighten import tighten


def settled(graph, threat, x0, property, method=None, seconds=30.0):
    judge = Judge(graph, None, x0, torch.zeros(len(x0), dtype=torch.long), threat, property)
    return search(judge, graph, [method or BranchAndBound()], Budget(seconds))


def reduced(graph, threat, x0, property):
    rows = property.rows(torch.zeros(1, dtype=torch.long), graph.output_shape[0], x0.dtype)
    return reduce(crown(graph, threat, x0), 0, rows.weight[0], rows.offset[0])


def sampled(threat, x0, count=500):
    return threat.sample(x0.expand(count, *x0.shape[1:]), RowRandom(torch.arange(count)))


@pytest.mark.parametrize(("level", "status"), [(1.0, Status.REFUTED), (1 + 1e-6, Status.PROVED)])
def test_distance_of_two_inputs(level, status):
    threat = Box(lower=torch.zeros(2, dtype=torch.float64), upper=torch.ones(2, dtype=torch.float64))
    below = Linear(-torch.ones(1, 1).double(), torch.tensor([level]).double(), torch.zeros(1, dtype=torch.long))
    (verdict,) = settled(distance_net(), threat, torch.full((1, 2), 0.4).double(), below)
    assert verdict.status is status


@given(st.integers(0, 10**6), st.sampled_from([[1], [2], [2, 1], [3]]), st.sampled_from([[2, 3, 2, 2], [3, 5, 3]]))
@settings(max_examples=25, deadline=None)
def test_status_and_bound_agree_with_enumeration(seed, groups, sizes):
    graph, property = random_net(sizes, seed), random_rows(sizes[-1], groups, seed + 1)
    low = torch.rand(sizes[0], generator=torch.Generator().manual_seed(seed)).double()
    threat = Box(lower=low, upper=low + 1.5)
    exact = exact_least_margin(graph, property, low, low + 1.5)
    (verdict,) = settled(graph, threat, low[None] + 0.75, property)
    assert verdict.bound <= exact + 1e-7
    if abs(exact) > 1e-6:
        assert verdict.status is (Status.PROVED if exact > 0 else Status.REFUTED)


@pytest.mark.parametrize("threat", [Linf(0.4), L2(0.7), L1(1.0)], ids=str)
@pytest.mark.parametrize("steps", [0, 5, 40])
def test_bounds_of_any_choice_stay_below_samples(threat, steps):
    property = Argmax()
    for seed in range(5):
        graph, x0 = random_net([4, 10, 8, 6, 3], seed), torch.rand(1, 4, generator=torch.Generator().manual_seed(seed))
        x0 = x0.double()
        network = reduced(graph, threat, x0, property)
        x = sampled(threat, x0)
        true = graph(x) @ property.rows(torch.tensor([0]), 3, x0.dtype).weight[0].T
        state, before = evaluate(network, x)
        assert torch.allclose(state @ network.weight.T + network.offset, true, atol=1e-9)
        assert ((before >= network.low - 1e-9) & (before <= network.high + 1e-9)).all()
        dual = start(network)[torch.zeros(len(network.offset), dtype=torch.long)]
        found = bound(network, dual, None, Ascent(steps=steps))
        assert (found.bound <= true.amin(0) + 1e-9).all()
        assert (found.bound >= bound(network, dual, None, Ascent(steps=0)).bound - 1e-12).all()


def test_a_network_of_products_alone_has_no_neuron_to_split():
    made = torch.Generator().manual_seed(1)
    constants = {name: torch.randn(2, 2, generator=made).double() for name in "vw"}
    nodes = [
        Node("a", "linear", ("x", "v")),
        Node("b", "linear", ("x", "w")),
        Node("y", "mul", ("a", "b")),
    ]
    graph = Graph(nodes, constants, input="x", output="y", input_shape=(2,), output_shape=(2,))
    threat, x0 = Linf(0.5, (-1.0, 1.0)), torch.zeros(1, 2).double()
    least = float(graph(sampled(threat, x0, 2000)).amin())
    above = Linear(torch.eye(2).double(), torch.full((2,), -least).double() * 0.999, torch.arange(2))
    (verdict,) = settled(graph, threat, x0 + 0.01, above, seconds=2.0)
    assert verdict.status is not Status.PROVED
    assert verdict.bound <= 0


def test_tightened_bounds_hold_every_sample_and_composed_networks_are_the_same():
    for seed in range(5):
        graph, threat = random_net([4, 12, 10, 8, 3], seed), Linf(0.25)
        x0 = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed)).double()
        network = reduced(graph, threat, x0, Argmax())
        tighter, _ = tighten(network, Ascent(steps=20))
        assert (tighter.low >= network.low).all()
        assert (tighter.high <= network.high).all()
        x = sampled(threat, x0)
        _, before = evaluate(network, x)
        assert ((before >= tighter.low - 1e-9) & (before <= tighter.high + 1e-9)).all()
        small = settle(tighter, tighter.low, tighter.high)
        assert len(small.low) <= len(network.low)
        first, second = (evaluate(n, x)[0] @ n.weight.T + n.offset for n in (network, small))
        assert torch.allclose(first, second, atol=1e-9)


def test_where_the_lower_line_counts_parts_are_bounded_no_worse_than_the_whole_before_any_step():
    for seed in range(20):
        graph = random_net([4, 10, 8, 3], seed)
        x0 = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed)).double()
        network = reduced(graph, Linf(0.5), x0, Argmax())
        whole = bound(network, start(network)[torch.zeros(2, dtype=torch.long)], None, Ascent(steps=15))
        for neuron in range(len(network.low)):
            cut = split(network, whole, Cut(torch.tensor([neuron, neuron]), torch.zeros(2).double()))
            parts = bound(network, cut, torch.eye(2).double().repeat(2, 1), Ascent(steps=0)).bound
            rising = (whole.parts[:, neuron] >= 0).repeat(2)
            assert (parts >= whole.bound.repeat(2) - 1e-9)[rising].all()


def residual_net(seed: int) -> Graph:
    """z = W1 relu(W0 x) + x-path, twice: a network whose affine parts skip activations."""
    made = torch.Generator().manual_seed(seed)

    def random(*shape: int):
        return torch.randn(*shape, generator=made, dtype=torch.float64) / shape[-1] ** 0.5

    constants = {"w0": random(6, 4), "b0": random(6), "w1": random(6, 6), "b1": random(6), "w2": random(3, 6)}
    constants["b2"] = random(3)
    nodes = [
        Node("z0", "linear", ("x", "w0", "b0")),
        Node("a0", "relu", ("z0",)),
        Node("z1", "linear", ("a0", "w1", "b1")),
        Node("s", "add", ("z1", "z0")),
        Node("a1", "relu", ("s",)),
        Node("t", "add", ("a1", "a0")),
        Node("y", "linear", ("t", "w2", "b2")),
    ]
    return Graph(nodes, constants, input="x", output="y", input_shape=(4,), output_shape=(3,))


@pytest.mark.parametrize("seed", range(6))
def test_residual_networks_are_settled_as_input_splitting_settles_them(seed):
    graph = residual_net(seed)
    x0 = torch.rand(1, 4, generator=torch.Generator().manual_seed(seed)).double()
    label = graph(x0).argmax(1)
    verdicts = []
    for name in ("branch-and-bound", "input-split"):
        judge = Judge(graph, None, x0, label, Linf(0.2), Argmax())
        verdicts += search(judge, graph, [build("verifier", name)], Budget(30))
    assert verdicts[0].status is verdicts[1].status
    assert verdicts[0].status is not Status.UNKNOWN


def test_a_memory_limit_ends_the_search_and_says_so():
    graph, x0 = random_net([6, 40, 40, 3], 3, torch.float32), torch.rand(1, 6)
    tight = Linear(torch.tensor([[1.0, 0, 0]]), graph(x0)[0, :1].neg().detach() + 2.0, torch.zeros(1, dtype=torch.long))
    (verdict,) = settled(graph, Linf(1.0), x0, tight, BranchAndBound(first=8, max_mb=0.001))
    if verdict.status is Status.UNKNOWN:
        assert "max_mb" in verdict.reason
