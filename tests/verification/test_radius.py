"""Proved and refuted radii against closed forms, brute force over phase patterns, and sampling."""

import math
from dataclasses import replace

import pytest
import torch
from curved import curved, multiplied
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import distance_net, exact_least_margin, finished, random_net, random_rows, relu_net
from torch import Tensor

from withstand.attacks.nearest import Nearest
from withstand.bounds.inner import widest
from withstand.bounds.margin import Bounds, prepare
from withstand.core.balls import L1, L2, Linf
from withstand.core.budget import Budget
from withstand.core.evidence import Grade
from withstand.core.judge import Contradiction
from withstand.core.property import Argmax, Linear, Property
from withstand.core.registry import build
from withstand.core.rng import RowRandom
from withstand.core.sparse import L0
from withstand.core.threat import Threat
from withstand.graph.ir import Graph
from withstand.verification.bracket import Bracket
from withstand.verification.ends import End, Ends
from withstand.verification.nested import Nested
from withstand.verification.phase_reach import tell_reach
from withstand.verification.phases import plant
from withstand.verification.problem import Problem
from withstand.verification.radius import narrow
from withstand.verification.refuting import refute

FREE = (-math.inf, math.inf)
UNIT = (0.0, 1.0)
DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
BALLS = {"linf": Linf, "l2": L2, "l1": L1}
BELOW_HALF = Linear(-torch.ones(1, 1).double(), torch.tensor([0.5]).double(), torch.zeros(1, dtype=torch.long))


def ends_of(graph: Graph, x0: Tensor, threat: Threat, property: Property, tolerance: float = 1e-3) -> Ends:
    return Ends(graph, None, x0, torch.zeros(len(x0), dtype=torch.long), threat, property, tolerance)


def both_sides(ends: Ends, *methods: str) -> Ends:
    """The ends after the nearest violation and verifiers."""
    every = torch.arange(len(ends))
    if ends.threat.norm in Nearest.norms:
        refute(ends, every, every.tolist(), Nearest(), Budget())
    for method in methods:
        narrow(ends, ends.open.nonzero().squeeze(1), ends.model, build("verifier", method), Budget())  # type: ignore[arg-type]
    return ends


def linear_samples(domain: tuple[float, float]) -> tuple[Graph, Tensor]:
    """An affine classifier of two classes and samples of its class 0, some of them near the edges of [0, 1]."""
    made = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(2, 6, generator=made).double(), torch.zeros(2).double()
    x0 = torch.rand(16, 6, generator=made).double()
    graph = relu_net([weight], [bias])
    return graph, x0[Argmax().margin(graph(x0), torch.zeros(16, dtype=torch.long)) > 0.05]


def least_linear(slope: Tensor, x0: Tensor, threat: Threat) -> float:
    """The radius [1] at which slope . x reaches zero over ball and domain, by bisection on the exact least point."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        point = threat.at(middle).extreme(x0, slope.expand_as(x0))
        low, high = (middle, high) if float((point * slope).sum()) > 0 else (low, middle)
    return low


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("domain", [FREE, UNIT], ids=["free", "unit"])
def test_both_ends_of_a_linear_model_meet_at_the_margin_over_the_dual_norm(norm, domain) -> None:
    graph, x0 = linear_samples(domain)
    slope = graph.constant("w0")[0] - graph.constant("w0")[1]
    threat = BALLS[norm](5.0, domain)
    ends = both_sides(ends_of(graph, x0, threat, Argmax()), "crown")
    for row in range(len(x0)):
        exact = least_linear(slope, x0[row : row + 1], threat)
        if domain == FREE:
            margin = float((x0[row] * slope).sum())
            assert exact == pytest.approx(margin / float(torch.linalg.vector_norm(slope, DUAL[norm])), rel=1e-9)
        assert float(ends.proved[row]) <= exact <= float(ends.refuted[row]) * (1 + 1e-9)
        if domain == FREE or norm == "linf":
            assert float(ends.proved[row]) >= min(exact, 5.0) * (1 - 2e-3)
    if domain == FREE or norm == "linf":
        assert set(ends.status) <= {End.MET, End.PROVED}


@pytest.mark.parametrize(
    ("norm", "domain", "distance"),
    [("linf", FREE, 0.25), ("linf", UNIT, 0.5), ("l1", FREE, 0.5), ("l2", FREE, 0.125**0.5), ("l2", UNIT, 0.5)],
)
@pytest.mark.parametrize("method", ["branch-and-bound", "milp"])
def test_the_radius_at_which_two_inputs_differ_by_a_half(norm, domain, distance, method) -> None:
    ends = ends_of(distance_net(), torch.zeros(1, 2).double(), BALLS[norm](1.0, domain), BELOW_HALF)
    both_sides(ends, "crown", method)
    assert float(ends.proved) <= distance <= float(ends.refuted) + 1e-12
    if norm == "linf":
        assert ends.status == [End.MET]
        assert float(ends.proved) == pytest.approx(distance, rel=2e-3)
    witness = ends.witness
    assert float(BELOW_HALF.margin(distance_net()(witness), torch.zeros(1))) <= 0
    assert float(ends.threat.distance(ends.x0, witness)) == float(ends.refuted)


def check_patterns(sizes: list[int], seed: int, method: str) -> None:
    """At the proved radius every phase pattern holds, at the refuted one some does not; complete methods meet."""
    graph, property = random_net([2, *sizes, 2], seed), random_rows(2, [1, 2], seed)
    x0 = torch.rand(2, 2, generator=torch.Generator().manual_seed(seed)).double()
    ends = both_sides(ends_of(graph, x0, Linf(0.5), property, 0.01), "ibp", "crown", method)
    for row in range(len(x0)):
        if ends.status[row] is End.INVALID:
            assert math.isnan(ends.proved[row])
            continue
        assert ends.status[row] is not End.OPEN

        def least(radius: float, row: int = row) -> float:
            return exact_least_margin(graph, property, (x0[row] - radius).clamp(min=0), (x0[row] + radius).clamp(max=1))

        assert least(float(ends.proved[row]) - 1e-9) > 0
        if ends.status[row] is End.MET:
            assert least(float(ends.refuted[row]) + 1e-9) < 1e-9
            assert 0.99 * ends.refuted[row] <= ends.proved[row] < ends.refuted[row]


@settings(max_examples=2, deadline=None)
@given(st.lists(st.integers(2, 4), min_size=1, max_size=2), st.integers(0, 10**6))
@pytest.mark.parametrize("method", ["input-split", "branch-and-bound"])
def test_radii_agree_with_all_phase_patterns(method, sizes, seed) -> None:
    check_patterns(sizes, seed, method)


def classifier(seed: int = 1) -> tuple[Graph, Tensor, Tensor]:
    """A random network of 6 inputs with samples and the labels that it gives them."""
    graph = random_net([6, 14, 14, 4], seed)
    x0 = torch.rand(12, 6, generator=torch.Generator().manual_seed(seed)).double()
    return graph, x0, graph(x0).argmax(1)


@pytest.mark.parametrize("threat", [Linf(0.5), L2(1.0), L1(1.5), L2(1.0, FREE)], ids=str)
@pytest.mark.parametrize("method", ["ibp", "crown", "zonotope", "crown-ibp", "forward"])
def test_no_sample_of_a_proved_ball_violates_and_ends_never_cross(threat, method) -> None:
    graph, x0, y = classifier()
    ends = Ends(graph, None, x0, y, threat, Argmax(), 0.01)
    both_sides(ends, method)
    assert bool((ends.proved < ends.refuted).all())
    assert bool((ends.proved > 0).any())
    rows = torch.arange(len(x0)).repeat(300)
    x = threat.at(ends.proved).pick(rows, x0).sample(x0[rows], RowRandom(torch.arange(len(rows))))
    assert bool((Argmax().margin(graph(x), y[rows]) > 0).all())


def test_bisected_radii_are_those_of_single_questions() -> None:
    """At a proved radius the verifier itself proves, at one clearly above it does not."""
    graph, x0, y = classifier(2)
    ends = both_sides(Ends(graph, None, x0, y, Linf(0.5), Argmax(), 0.005), "crown")
    rows = Argmax().rows(y, 4, torch.float64)
    for radius, proves in ((ends.proved, True), (torch.minimum(ends.proved * 1.01, ends.upper), False)):
        for row in (ends.open | (ends.proved < ends.largest)).nonzero().squeeze(1).tolist():
            one = torch.tensor([row])
            bounds = prepare("crown", graph, Linf(float(radius[row])), x0[one]).lower(rows[one])
            assert (float(rows[one].combine(bounds)) > 0) == proves


class Counting:
    """A verifier that counts the questions it is asked."""

    def __init__(self, inner) -> None:
        self.inner, self.asked, self.shared = inner, 0, True

    def prove(self, problem: Problem):
        self.asked += len(problem)
        return self.inner.prove(problem if self.shared else replace(problem, nested=None))


def test_a_search_needs_fewer_passes_than_bisection_and_sharing_saves_some(monkeypatch) -> None:
    monkeypatch.setattr("withstand.verification.search.describe", lambda verifier: "crown")
    monkeypatch.setattr("withstand.verification.radius.describe", lambda verifier: "crown")
    graph, x0, y = classifier(2)
    asked, tolerance = {}, 0.002
    for shared in (True, False):
        ends = both_sides(Ends(graph, None, x0, y, Linf(0.5), Argmax(), tolerance))
        counting, rows = Counting(build("verifier", "crown")), ends.open.nonzero().squeeze(1)
        counting.shared = shared
        narrow(ends, rows, graph, counting, Budget())
        asked[shared] = counting.asked / len(rows)
    assert asked[True] < asked[False] < math.log2(1 / tolerance)
    assert asked[True] < 0.7 * math.log2(1 / tolerance)


def test_lines_of_a_larger_ball_prove_what_they_say_at_smaller_ones() -> None:
    graph, x0, y = classifier(3)
    for threat in (Linf(0.2), L2(0.4), L1(0.8, FREE)):
        found = prepare("crown", graph, threat, x0)
        assert isinstance(found, Bounds)
        rows = Argmax().rows(y, 4, torch.float64)
        radii, level = torch.full((12,), threat.radius).double(), torch.zeros(12).double()
        radius, bound = found.within(rows, radii, level)
        assert bool(((radius > 0) & (radius < threat.radius)).any())
        proved = radius > 0
        assert bool((bound[proved] > 0).all())
        for seed in range(100):
            x = threat.at(radius).sample(x0, RowRandom(torch.arange(12) + 20 * seed))
            assert bool((Argmax().margin(graph(x), y) >= bound - 1e-9)[proved].all())


def test_boxes_of_a_larger_ball_are_sound_and_only_tighten() -> None:
    graph, x0, _ = classifier(4)
    wide, near = prepare("crown", graph, Linf(0.2), x0).boxes, Linf(0.15)
    alone, helped = (prepare("crown", graph, near, x0, known=known).boxes for known in (None, wide))
    inside = [graph.trace(near.sample(x0, RowRandom(torch.arange(12) + seed))) for seed in range(50)]
    for name, (low, high) in helped.items():
        assert bool((low >= alone[name][0] - 1e-9).all() | (low >= wide[name][0] - 1e-9).all())
        assert bool((high <= wide[name][1] + 1e-9).all())
        for values in inside:
            if name in values:
                assert bool(((values[name] >= low - 1e-9) & (values[name] <= high + 1e-9)).all())


def test_boxes_are_known_only_of_the_ball_they_were_kept_for() -> None:
    one, two = torch.tensor([True, False]), torch.tensor([False, True])
    nested, every = Nested(2), torch.arange(2)
    box = -torch.ones(2, 3), torch.ones(2, 3)
    nested.ask(every, torch.tensor([0.1, 0.1]).double()).keep({"a": box, "b": box}, one)
    nested.ask(every, torch.tensor([0.3, 0.3]).double()).keep({"a": box, "c": box}, one)
    known = nested.ask(every, torch.tensor([0.2, 0.2]).double()).known
    assert known is not None
    assert [bool(known[name][1][0].isfinite().all()) for name in "abc"] == [True, False, True]
    assert not any(bool(end[1].isfinite().any()) for name in "abc" for end in known[name])
    nested.ask(every, torch.tensor([0.1, 0.4]).double()).keep({"a": box}, two)
    known = nested.ask(every, torch.tensor([0.2, 0.2]).double()).known
    assert known is not None
    assert [bool(known[name][1][1].isfinite().all()) for name in "abc"] == [True, False, False]


def test_a_search_cut_short_proves_a_smaller_ball() -> None:
    graph, x0, y = classifier(1)
    start = both_sides(Ends(graph, None, x0, y, Linf(0.5), Argmax(), 0.01), "crown")
    nested = Nested(len(x0))
    radii = (start.proved + start.upper) / 2
    problem = Problem(graph, x0, y, Linf(1.0).at(radii), Argmax(), nested=nested.ask(torch.arange(len(x0)), radii))
    for _ in build("verifier", "branch-and-bound:effort=0.000001,steps=1").prove(problem):
        pass
    radius, bound = problem.nested.reached  # type: ignore[union-attr]
    told = radius > 0
    assert bool((told & (radius < radii)).any())
    assert bool((bound[told] > 0).all())
    assert bool((radius < start.refuted).all())
    for seed in range(200):
        x = Linf(1.0).at(radius).sample(x0, RowRandom(torch.arange(len(x0)) + 50 * seed))
        assert bool((Argmax().margin(graph(x), y) > 0).all())


@pytest.mark.parametrize(
    ("graph", "gap", "row"),
    [(multiplied(1), 0.3, 3), (curved("sigmoid", [2, 6, 4, 1], 3), 0.05, 0)],
    ids=["products", "sigmoid"],
)
def test_a_search_that_cuts_products_or_curves_says_how_far_inside_it_proves(
    graph: Graph, gap: float, row: int
) -> None:
    points = torch.rand(4, 2, generator=torch.Generator().manual_seed(1)).double()
    value, zero = graph(points)[:, 0], torch.zeros(1, dtype=torch.long)
    x0, rows = points[row][None], Linear(torch.ones(1, 1).double(), gap - value.min()[None], zero)
    nested = Nested(1).ask(zero, torch.full((1,), 0.5).double())
    (tree,) = finished(plant(Problem(graph, x0, zero, Linf(0.5, FREE), rows, nested=nested)))
    for _ in range(30):
        list(tree.step())
        tell_reach(tree)
        if float(nested.reached[0]):
            break
    radius, bound = nested.reached
    assert 0 < float(radius) < 0.5
    x = Linf(float(radius), FREE).sample(x0.expand(5000, 2), RowRandom(torch.arange(5000)))
    assert float(rows.margin(graph(x), zero.expand(5000)).min()) >= float(bound)


def test_counted_pixels_end_at_neighbouring_counts() -> None:
    """Of a sum that must stay above a level, each pixel can take away its value: the count is known by sorting."""
    x0 = torch.rand(8, 9, generator=torch.Generator().manual_seed(2)).double()
    graph = relu_net([torch.ones(1, 9).double()], [torch.zeros(1).double()])
    property = Linear(torch.ones(1, 1).double(), torch.tensor([-2.0]).double(), torch.zeros(1, dtype=torch.long))
    ends = ends_of(graph, x0, L0(9.0), property)
    every = torch.arange(8)
    refute(ends, every, every.tolist(), build("attack", "sigma-zero:steps=100"), Budget())
    refute(ends, every, every.tolist(), build("attack", "pgd"), Budget())
    narrow(ends, every, graph, build("verifier", "crown"), Budget())
    left = x0.sum(1, keepdim=True) - x0.sort(descending=True).values.cumsum(1)
    count = (left > 2).sum(1).double()
    assert ends.proved.tolist() == count.tolist()
    assert ends.refuted.tolist() == (count + 1).tolist()
    assert ends.status == [End.MET] * 8


def test_a_proof_beyond_a_witness_is_a_fault_of_the_tool() -> None:
    graph, x0 = distance_net(), torch.zeros(2, 2).double()
    witness = torch.tensor([[0.3, -0.3], [0.3, -0.3]]).double()
    row, bound = torch.tensor([1]), torch.tensor([0.1]).double()
    ends = ends_of(graph, x0, Linf(1.0, FREE), BELOW_HALF)
    ends.learn_points(row, witness[row], "a seer")
    with pytest.raises(Contradiction, match=r"Sample 1 was refuted by a seer and proved by a liar"):
        ends.learn_within(row, torch.tensor([0.4]).double(), bound, Grade.FLOAT64, "a liar")
    ends = ends_of(graph, x0, Linf(1.0, FREE), BELOW_HALF)
    ends.learn_within(row, torch.tensor([0.4]).double(), bound, Grade.FLOAT64, "a liar")
    with pytest.raises(Contradiction, match=r"Sample 1 was refuted by a seer and proved by a liar"):
        ends.learn_points(row, witness[row], "a seer")


def test_a_proof_holds_for_smaller_and_a_witness_for_larger_radii() -> None:
    graph, x0 = distance_net(), torch.zeros(1, 2).double()
    ends = ends_of(graph, x0, Linf(1.0, FREE), BELOW_HALF)
    row = torch.tensor([0])
    bound = torch.tensor([0.1])
    for radius in (0.1, 0.2, 0.05):
        ends.learn_within(row, torch.tensor([radius], dtype=torch.float64), bound, Grade.FLOAT64, "a proof")
    assert float(ends.proved) == 0.2
    for reach in (0.6, 0.3, 0.45):
        ends.learn_points(row, torch.tensor([[reach, -reach]], dtype=torch.float64), "a point")
    assert float(ends.refuted) == 0.3
    ends.learn_points(row, torch.tensor([[0.1, -0.1]]).double(), "no witness")
    assert float(ends.refuted) == 0.3


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(1.0, 6.0), st.booleans())
def test_brackets_close_around_the_root(root, power, searches) -> None:
    low, high = torch.zeros(1).double(), torch.ones(1).double()
    bracket = Bracket(low, torch.ones(1).double(), high, 0.01, lambda radii: radii, searches)
    row, asked = torch.tensor([0]), 0
    while not bool(bracket.done):
        radius = bracket.trial
        value = 1 - (radius / root) ** power
        bracket.learn(row, radius, value, value > 0)
        asked += 1
        assert float(bracket.low) <= root <= float(bracket.high)
        assert asked < 40
    assert float(bracket.high - bracket.low) <= 0.01 * float(bracket.high) + 1e-12


def test_the_widest_radius_is_where_the_value_meets_the_level() -> None:
    slope = torch.tensor([1.0, 2.0, 0.1, 5.0]).double()
    start = torch.tensor([1.0, 1.0, 1.0, -1.0]).double()
    radii, level = torch.full((4,), 2.0).double(), torch.full((4,), 0.5).double()
    radius, value = widest(lambda r: start - slope * r, radii, level)
    assert torch.allclose(radius, torch.tensor([0.5, 0.25, 2.0, 0.0]).double(), atol=2 / 2**13)
    assert bool((value[:3] > 0.5).all())
