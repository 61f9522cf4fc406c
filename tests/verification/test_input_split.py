"""Input splitting against the exact least margin by enumeration of ReLU phases, and its parts alone."""

from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import distance_net, exact_least_margin, random_net, random_rows, relu_net

from withstand.core.balls import L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.evidence import Candidate, Lower
from withstand.core.judge import Judge, Status
from withstand.core.property import Linear, Rows
from withstand.graph.ir import Graph, Node
from withstand.verification.boxbounds import GraphBounder
from withstand.verification.chain import chain_of
from withstand.verification.clip import shrink
from withstand.verification.methods.input_split import InputSplit, with_means
from withstand.verification.pool import Boxes, Pool, least_by_question
from withstand.verification.problem import Problem
from withstand.verification.search import search


def settle(graph, threat, x0, property, method=None, seconds=20.0):
    judge = Judge(graph, None, x0, torch.zeros(len(x0)), threat, property)
    return search(judge, graph, [method or InputSplit()], Budget(seconds))


def at_least(level: float, dtype=torch.float64) -> Linear:
    """Safe: y < level."""
    return Linear(-torch.ones(1, 1, dtype=dtype), torch.tensor([level], dtype=dtype), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("level", "status"), [(1 - 1e-9, Status.REFUTED), (1.0, Status.REFUTED), (1 + 1e-6, Status.PROVED)]
)
def test_distance_of_two_inputs(level, status):
    threat = Box(lower=torch.zeros(2, dtype=torch.float64), upper=torch.ones(2, dtype=torch.float64))
    (verdict,) = settle(distance_net(), threat, torch.full((1, 2), 0.4, dtype=torch.float64), at_least(level))
    assert verdict.status is status
    if verdict.witness is not None:
        assert sorted(verdict.witness.tolist()) == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize(("radius", "status"), [(0.4999, Status.PROVED), (0.5001, Status.REFUTED)])
def test_closest_change_of_distance_is_a_half_inside_the_domain(radius, status):
    """From (0, 0) to |x0 - x1| >= 0.5: 0.25 in linf on the plane, 0.5 in the domain [0, 1]."""
    x0 = torch.zeros(1, 2, dtype=torch.float64)
    (verdict,) = settle(distance_net(), Linf(radius), x0, at_least(0.5))
    assert verdict.status is status
    free = Linf(radius / 2, domain=(-1.0, 1.0))
    (verdict,) = settle(distance_net(), free, x0, at_least(0.5))
    assert verdict.status is status


@pytest.mark.parametrize("sizes", [[2, 5, 2], [3, 3, 2, 2], [1, 4, 2]])
@pytest.mark.parametrize("groups", [[1], [2, 1], pytest.param([3], marks=pytest.mark.slow)])
def test_verdicts_and_bounds_agree_with_enumeration(sizes, groups):
    low, high = -torch.ones(sizes[0], dtype=torch.float64), torch.ones(sizes[0], dtype=torch.float64)
    seen = set()
    for seed in range(3):
        graph, rows = random_net(sizes, seed), random_rows(sizes[-1], groups, seed)
        truth = exact_least_margin(graph, rows, low, high)
        for shift in (-0.05, 0.05):  # the least margin becomes just negative, and just positive
            property = Linear(rows.weight, rows.offset - truth + shift, rows.group)
            (verdict,) = settle(graph, Box(lower=low, upper=high), torch.zeros(1, sizes[0]).double(), property)
            assert verdict.status is (Status.PROVED if shift > 0 else Status.REFUTED)
            assert verdict.bound <= shift + 1e-7
            assert verdict.margin >= shift - 1e-7
            seen.add(verdict.status)
    assert seen == {Status.PROVED, Status.REFUTED}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.sampled_from([[1], [2], [1, 2]]))
def test_float32_brackets_the_exact_least_margin(seed, rows):
    graph, property = random_net([2, 4, 2], seed), random_rows(2, rows, seed)
    low, high = torch.full((2,), -0.5, dtype=torch.float64), torch.full((2,), 0.75, dtype=torch.float64)
    truth = exact_least_margin(graph, property, low, high)
    (verdict,) = settle(graph.float(), Box(lower=low, upper=high), torch.zeros(1, 2), property)
    assert verdict.bound <= truth + 1e-5
    assert verdict.margin >= truth - 1e-5
    if abs(truth) > 1e-4:
        assert verdict.status is (Status.PROVED if truth > 0 else Status.REFUTED)


def test_running_bounds_rise_towards_the_truth_and_stay_below_it():
    graph, property = random_net([3, 6, 2], 5), random_rows(2, [1, 1], 5)
    low, high = -torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    truth = exact_least_margin(graph, property, low, high)
    shifted = Linear(property.weight, property.offset - truth + 1e-3, property.group)
    problem = Problem(graph, torch.zeros(1, 3).double(), torch.zeros(1), Box(lower=low, upper=high), shifted)
    bounds = [e.bound.item() for e in InputSplit(entries=1).prove(problem) if isinstance(e, Lower)]
    assert len(bounds) > 3
    assert all(a <= b + 1e-12 for a, b in pairwise(bounds))
    assert all(bound <= 1e-3 + 1e-9 for bound in bounds)
    assert bounds[-1] > 0


def test_several_questions_share_one_pool():
    threat = Box(
        lower=torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.0, 0.5]], dtype=torch.float64),
        upper=torch.tensor([[0.3, 0.3], [1.0, 1.0], [0.2, 1.0]], dtype=torch.float64),
    )
    x0 = torch.tensor([[0.1, 0.1], [0.5, 0.5], [0.1, 0.6]], dtype=torch.float64)
    verdicts = settle(distance_net(), threat, x0, at_least(0.7))
    assert [v.status for v in verdicts] == [Status.PROVED, Status.REFUTED, Status.REFUTED]
    assert verdicts[0].bound <= 0.4
    for row, verdict in enumerate(verdicts[1:], 1):
        assert verdict.witness is not None
        assert threat.pick(torch.tensor([row]), x0).contains(x0[row : row + 1], verdict.witness[None]).all()


def test_closed_questions_are_left_alone():
    graph, low = random_net([3, 8, 2], 1), -torch.ones(3, dtype=torch.float64)
    rows = random_rows(2, [1], 1)
    safe = Linear(rows.weight, rows.offset + 100, rows.group)
    problem = Problem(graph, torch.zeros(2, 3).double(), torch.zeros(2), Box(lower=low, upper=-low), safe)
    problem.open[0] = False
    told = [set(e.rows.tolist()) for e in InputSplit().prove(problem)]
    assert told
    assert set.union(*told) == {1}
    problem.open[1] = False
    assert list(InputSplit().prove(problem)) == []


def test_the_memory_limit_ends_the_search_and_is_the_reason():
    graph, rows = random_net([6, 40, 40, 2], 2), random_rows(2, [1], 2)
    low = -3 * torch.ones(6, dtype=torch.float64)
    points = torch.rand(4000, 6, generator=torch.Generator().manual_seed(0)).double() * 6 - 3
    least = rows.margin(graph(points), torch.zeros(4000)).min()
    property = Linear(rows.weight, rows.offset - least + 0.5, rows.group)
    (verdict,) = settle(
        graph, Box(lower=low, upper=-low), torch.zeros(1, 6).double(), property, InputSplit(max_boxes=300)
    )
    assert verdict.status is Status.UNKNOWN
    assert "max_boxes=300" in verdict.reason
    assert -torch.inf < verdict.bound <= 0.5


def test_a_margin_within_rounding_of_zero_ends_undecided():
    """The least margin is 1e-13, below what float64 may claim: neither proof nor witness, and an end."""
    threat = Box(lower=torch.zeros(2, dtype=torch.float64), upper=torch.ones(2, dtype=torch.float64))
    (verdict,) = settle(
        distance_net(), threat, torch.full((1, 2), 0.4).double(), at_least(1 + 1e-13), InputSplit(), seconds=2.0
    )
    assert verdict.status is Status.UNKNOWN
    assert verdict.reason


def test_l2_balls_are_proved_over_their_box_and_refuted_inside():
    x0 = torch.full((1, 2), 0.5, dtype=torch.float64)
    (verdict,) = settle(distance_net(), L2(0.2), x0, at_least(0.5))  # the box around reaches 0.4
    assert verdict.status is Status.PROVED
    (verdict,) = settle(distance_net(), L2(0.3), x0, at_least(0.4))  # the ball reaches 0.424
    assert verdict.status is Status.REFUTED


def residual() -> Graph:
    weight = torch.tensor([[1.0, -1.0], [0.5, 1.0]], dtype=torch.float64)
    nodes = [
        Node("z", "linear", ("x", "w")),
        Node("a", "relu", ("z",)),
        Node("s", "add", ("a", "x")),
        Node("t", "tanh", ("s",)),
    ]
    return Graph(nodes, {"w": weight}, input="x", output="t", input_shape=(2,), output_shape=(2,))


def test_other_graphs_are_split_by_general_bounds():
    graph = residual()
    assert chain_of(graph, torch.float64) is None
    low, x0 = -torch.ones(2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    grid = torch.cartesian_prod(*torch.linspace(-1, 1, 201, dtype=torch.float64).expand(2, -1))
    weight = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    least = (graph(grid) @ weight.T).min()
    for shift, status in ((0.05, Status.PROVED), (-0.05, Status.REFUTED)):
        property = Linear(weight, (shift - least)[None], torch.zeros(1, dtype=torch.long))
        (verdict,) = settle(graph, Box(lower=low, upper=-low), x0, property)
        assert verdict.status is status


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chain_computes_and_bounds_what_its_graph_does(dtype):
    graph = random_net([4, 9, 7, 3], 0).to(dtype)
    chain = chain_of(graph, dtype)
    assert chain is not None
    made = torch.Generator().manual_seed(1)
    low = torch.randn(6, 4, generator=made, dtype=dtype)
    high = (
        low
        + torch.rand(6, 4, generator=made, dtype=dtype) * torch.tensor([1e-3, 0.1, 0.5, 1, 2, 0], dtype=dtype)[:, None]
    )
    rows = Rows(torch.randn(6, 5, 3, generator=made, dtype=dtype), torch.ones(6, 5, dtype=dtype), torch.arange(5))
    x = low + (high - low) * torch.rand(500, 6, 4, generator=made, dtype=dtype)
    outputs = graph(x.reshape(-1, 4))
    tolerance = 3e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(chain(x.reshape(-1, 4)), outputs, atol=tolerance)
    value = torch.einsum("kro,pko->pkr", rows.weight, outputs.reshape(500, 6, 3)) + rows.offset
    found = chain.bound(low, high, rows)
    assert (found.bound <= value.amin(0) + tolerance).all()
    assert (found.bound[-1] >= value.amin(0)[-1] - tolerance).all()  # a single point is bounded exactly
    general = GraphBounder(graph).bound(low, high, rows)
    assert (general.bound <= value.amin(0) + tolerance).all()
    start = found.edge - torch.minimum(found.slope * low[:, None], found.slope * high[:, None]).sum(2)
    lines = torch.einsum("kmn,pkn->pkm", found.slope, x) + start
    assert (lines <= value.repeat(1, 1, 2) + tolerance).all()
    boxes = torch.arange(6)
    effect = found.effect(boxes, boxes % 5)
    assert effect.shape == (6, 4)
    assert (effect >= 0).all()
    assert (effect[:5].amax(1) > 0).all()


def test_a_ratio_network_is_no_chain():
    nodes = [Node("r", "div", ("one", "x"))]
    graph = Graph(nodes, {"one": torch.ones(2)}, input="x", output="r", input_shape=(2,), output_shape=(2,))
    assert chain_of(graph, torch.float32) is None
    both = Graph([Node("r", "mul", ("x", "x"))], {}, input="x", output="r", input_shape=(2,), output_shape=(2,))
    assert chain_of(both, torch.float32) is None


def test_a_chain_may_end_or_begin_with_relu():
    nodes = [Node("a", "relu", ("x",)), Node("z", "linear", ("a", "w")), Node("b", "relu", ("z",))]
    graph = Graph(nodes, {"w": torch.eye(3)[:2] - 0.5}, input="x", output="b", input_shape=(3,), output_shape=(2,))
    chain = chain_of(graph, torch.float32)
    assert chain is not None
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(chain(x), graph(x), atol=1e-6)


def test_shrinking_loses_no_point_where_all_lines_are_low():
    made = torch.Generator().manual_seed(0)
    low = torch.randn(40, 3, generator=made, dtype=torch.float64)
    high = low + torch.rand(40, 3, generator=made, dtype=torch.float64)
    slope = torch.randn(40, 4, 3, generator=made, dtype=torch.float64)
    constant = torch.randn(40, 4, generator=made, dtype=torch.float64) - (slope * low[:, None]).sum(2)
    edge = constant + torch.minimum(slope * low[:, None], slope * high[:, None]).sum(2)
    level = torch.full((40,), 0.1, dtype=torch.float64)
    below, above = shrink(low, high, edge, slope, level)
    x = low + (high - low) * torch.rand(2000, 40, 3, generator=made, dtype=torch.float64)
    value = torch.einsum("kmn,pkn->pkm", slope, x) + constant
    violating = (value <= 0.1).all(2)
    inside = ((x >= below - 1e-9) & (x <= above + 1e-9)).all(2)
    assert (inside | ~violating).all()
    assert violating.any()
    assert (below > above).any(1).sum() > 0
    assert ((above - below) < (high - low) - 1e-6).any()


def test_means_of_rows_never_raise_the_margin():
    made = torch.Generator().manual_seed(0)
    group = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])
    rows = Rows(torch.randn(2, 11, 4, generator=made), torch.randn(2, 11, generator=made), group)
    more, mix = with_means(rows)
    assert torch.allclose(mix @ rows.weight, more.weight)
    assert torch.allclose(mix.sum(1), torch.ones(len(mix)))
    assert ((mix > 0) <= (more.group[:, None] == group)).all()
    assert more.group.bincount().tolist() == [1, 3, 7, 6]
    outputs = torch.randn(2, 4, generator=made)
    assert torch.allclose(more.combine(more.value(outputs)), rows.combine(rows.value(outputs)))


def boxes(bounds: list[float], question: int = 0) -> Boxes:
    count = len(bounds)
    place = torch.tensor(bounds)[:, None]
    return Boxes(torch.full((count,), question), place, place + 1, place[:, 0].clone(), torch.ones(count, 1).bool())


@given(st.lists(st.one_of(st.integers(1, 9), st.lists(st.integers(-50, 50), min_size=1, max_size=9)), max_size=15))
def test_a_pool_gives_back_what_was_put_least_bound_first(steps):
    pool, model = Pool(boxes([0.0]), 1000), [0.0]
    for step in steps:
        if isinstance(step, int):
            taken = pool.take(step)
            assert sorted(taken.bound.tolist()) == sorted(model)[:step]
            assert (taken.low[:, 0] == taken.bound).all()
            model = sorted(model)[step:]
        else:
            pool.put(boxes([float(v) for v in step]))
            model += [float(v) for v in step]
        assert len(pool) == len(model)
        assert sorted(pool.held.bound.tolist()) == sorted(model)
    assert least_by_question(pool.held, 2).tolist() == [min(model, default=float("inf")), float("inf")]


def test_a_full_pool_gives_the_latest_and_drops_closed_questions():
    pool = Pool(boxes([3.0, 1.0]), 2)
    pool.put(boxes([9.0, 7.0], question=1))
    assert pool.take(1).bound.tolist() == [7.0]
    pool.keep(lambda held: held.question == 1)
    assert pool.held.bound.tolist() == [9.0]


def test_candidates_lie_in_their_threat_and_violate():
    graph = relu_net(
        [torch.eye(2).double(), torch.tensor([[1.0, 1.0]]).double()], [torch.zeros(2).double(), torch.zeros(1).double()]
    )
    threat = Box(lower=torch.zeros(2, dtype=torch.float64), upper=torch.ones(2, dtype=torch.float64))
    problem = Problem(graph, torch.full((1, 2), 0.5).double(), torch.zeros(1), threat, at_least(1.9))
    found = [e for e in islice(InputSplit().prove(problem), 5) if isinstance(e, Candidate)]
    assert found
    for evidence in found:
        assert threat.contains(evidence.x, evidence.x).all()
        assert (problem.property.margin(graph(evidence.x), problem.y) <= 0).all()


def test_a_large_offset_leaves_the_weights_of_a_chain_as_they_are():
    """Beside 2^48 differences of outputs would hold weights to a sixteenth only."""
    made = torch.Generator().manual_seed(0)
    weight, last = torch.randn(3, 2, generator=made).double(), torch.randn(1, 3, generator=made).double()
    constants = {"w": weight, "b": torch.full((3,), 2.0**48).double(), "v": last}
    nodes = [Node("a", "linear", ("x", "w", "b")), Node("s", "relu", ("a",)), Node("t", "sub", ("s", "b"))]
    nodes += [Node("y", "linear", ("t", "v"))]
    graph = Graph(nodes, constants, input="x", output="y", input_shape=(2,), output_shape=(1,))
    chain = chain_of(graph, torch.float64)
    assert chain is not None
    assert torch.equal(chain.weights[0], weight)
    assert torch.equal(chain.weights[1], last)
