"""The verifiers milp and lp: exact against every pattern of phases, another engine, closed forms and z3."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import distance_net, exact_least_margin, random_net, random_rows
from varied import VARIED

from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.evidence import Candidate, Grade, Lower
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax, Linear
from withstand.core.registry import build
from withstand.core.rng import RowRandom
from withstand.verification.problem import Problem
from withstand.verification.search import TIME_OVER, search

FREE = (-math.inf, math.inf)
SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=2)
GROUPS = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def outcome(name, graph, x0, threat, property, y=None):
    """The best bound and the lowest margin of a candidate that a verifier tells of one question."""
    y = torch.zeros(1, dtype=torch.long) if y is None else y
    bound, margin = -math.inf, math.inf
    for evidence in build("verifier", name).prove(Problem(graph, x0, y, threat, property)):
        if isinstance(evidence, Lower):
            assert evidence.grade is Grade.FLOAT64
            bound = max(bound, float(evidence.bound))
        if isinstance(evidence, Candidate):
            assert bool(threat.contains(x0, evidence.x).all())
            margin = min(margin, float(property.margin(graph(evidence.x), y)))
    return bound, margin


def a_box(seed):
    rng = np.random.default_rng(seed)
    low = torch.tensor(rng.uniform(-1, 0, 2))
    high = low + torch.tensor(rng.uniform(0.2, 2, 2))
    return low, high, Box(lower=low, upper=high), (low + high)[None] / 2


def check_exact(sizes, groups, seed, options):
    graph, property = random_net([2, *sizes, 2], seed), random_rows(2, groups, seed)
    low, high, threat, x0 = a_box(seed)
    truth = exact_least_margin(graph, property, low, high)
    bound, margin = outcome(f"milp:goal=worst,{options}", graph, x0, threat, property)
    tolerance = 1e-6 if "highs" in options else 1e-7
    assert bound == pytest.approx(truth, abs=tolerance)
    assert bound <= truth + 1e-9
    assert margin == pytest.approx(truth, abs=1e-6)
    bound, margin = outcome(f"milp:{options}", graph, x0, threat, property)
    if abs(truth) > 1e-6:
        assert (bound > 0) == (truth > 0)
        assert (margin <= 0) == (truth < 0)


OPTIONS = st.sampled_from(["tighten=crown", "tighten=lp", "tighten=milp", "engine=highs"])


@settings(max_examples=15, deadline=None)
@given(SIZES, GROUPS, st.integers(0, 10**6), OPTIONS)
def test_the_least_margin_is_that_of_all_phase_patterns(sizes, groups, seed, options):
    check_exact(sizes, groups, seed, options)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(SIZES, GROUPS, st.integers(0, 10**6), OPTIONS)
def test_thousands_of_least_margins_are_those_of_all_phase_patterns(sizes, groups, seed, options):
    check_exact(sizes, groups, seed, options)


def check_order(sizes, groups, seed):
    """CROWN, its neurons' linear program, the one of tightened neurons, the truth: each at least the one before."""
    graph, property = random_net([2, *sizes, 2], seed), random_rows(2, groups, seed)
    low, high, threat, x0 = a_box(seed)
    names = ("crown", "lp", "lp:tighten=lp", "milp:goal=worst")
    bounds = []
    for name in names:
        found = [-math.inf]
        for evidence in build("verifier", name).prove(Problem(graph, x0, torch.zeros(1), threat, property)):
            found += [float(evidence.bound)] if isinstance(evidence, Lower) else []
        bounds.append(max(found))
    truth = exact_least_margin(graph, property, low, high)
    assert all(a <= b + 1e-8 for a, b in zip(bounds, [*bounds[1:], truth], strict=True))


@settings(max_examples=8, deadline=None)
@given(SIZES, GROUPS, st.integers(0, 10**6))
def test_each_method_is_at_least_as_tight_as_the_one_before(sizes, groups, seed):
    check_order(sizes, groups, seed)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(SIZES, GROUPS, st.integers(0, 10**6))
def test_each_method_is_at_least_as_tight_as_the_one_before_on_many(sizes, groups, seed):
    check_order(sizes, groups, seed)


@pytest.mark.parametrize("threat", [Linf(0.3), L1(0.5), L2(0.4)], ids=str)
@pytest.mark.parametrize("name", ["residual", "pooled", "kinked"])
def test_both_engines_find_the_same_least_margin(name, threat):
    for seed in range(2):
        graph = VARIED[name](seed)
        x0 = torch.rand(1, *graph.input_shape, generator=torch.Generator().manual_seed(seed)).double()
        y = graph(x0).argmax(1)
        bound, margin = outcome("milp:goal=worst", graph, x0, threat, Argmax(), y)
        assert margin == pytest.approx(bound, abs=1e-5)
        points = threat.sample(x0.expand(500, *x0.shape[1:]), RowRandom(torch.arange(500)))
        assert float(Argmax().margin(graph(points), y.expand(500)).min()) >= bound - 1e-9
        if threat.norm != "l2":  # whose cuts only the tree adds
            other, seen = outcome("milp:goal=worst,engine=highs", graph, x0, threat, Argmax(), y)
            assert other == pytest.approx(bound, abs=1e-5)
            assert seen == pytest.approx(bound, abs=1e-5)


@pytest.mark.parametrize(("threat", "most"), [(Linf(0.5, FREE), 1.0), (L1(0.5, FREE), 0.5), (L2(0.5, FREE), 0.5**0.5)])
def test_the_largest_distance_of_two_inputs_is_the_dual_norm(threat, most):
    """1 - |x0 - x1| is least where the dual norm of (1, -1) says."""
    property = Linear(-torch.ones(1, 1).double(), torch.ones(1).double(), torch.zeros(1, dtype=torch.long))
    bound, margin = outcome("milp:goal=worst", distance_net(), torch.zeros(1, 2).double(), threat, property)
    assert bound == pytest.approx(1 - most * (1 + 1e-6), abs=3e-6)
    assert margin == pytest.approx(1 - most, abs=3e-6)


def test_the_domain_counts():
    """|x0 - x1| reaches 0.5 at linf distance 0.25, but in [0, 1] only at 0.5."""
    property = Linear(-torch.ones(1, 1).double(), torch.tensor([0.5]).double(), torch.zeros(1, dtype=torch.long))
    for radius, domain, holds in ((0.24, FREE, True), (0.26, FREE, False), (0.49, (0, 1), True), (0.51, (0, 1), False)):
        x0 = torch.zeros(1, 2).double()
        bound, margin = outcome("milp", distance_net(), x0, Linf(radius, domain), property)
        assert (bound > 0) == holds
        assert (margin <= 0) != holds


def test_smooth_networks_are_bounded_and_never_proved_wrongly():
    graph, x0 = VARIED["smooth"](), torch.full((1, 2), 0.5).double()
    y = graph(x0).argmax(1)
    threat = Linf(0.4)
    crown = outcome_of_crown(graph, x0, threat, y)
    bound, _ = outcome("milp:goal=worst", graph, x0, threat, Argmax(), y)
    points = threat.sample(x0.expand(3000, 2), RowRandom(torch.arange(3000)))
    assert crown - 1e-9 <= bound <= float(Argmax().margin(graph(points), y.expand(3000)).min())


def outcome_of_crown(graph, x0, threat, y):
    found = build("verifier", "crown").prove(Problem(graph, x0, y, threat, Argmax()))
    return max(float(e.bound) for e in found)


def judged(graph, x0, y, threat, verifier, seconds=None):
    judge = Judge(graph, None, x0, y, threat, Argmax())
    return search(judge, graph, [build("verifier", verifier)], Budget(seconds))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_questions_are_proved_or_refuted_with_a_witness(dtype):
    graph = random_net([4, 10, 10, 3], 2, dtype)
    x0 = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)).to(dtype)
    threat = Linf(0.2)
    verdicts = judged(graph, x0, graph(x0).argmax(1), threat, "milp")
    assert {v.status for v in verdicts} == {Status.PROVED, Status.REFUTED}
    for row, verdict in enumerate(verdicts):
        if verdict.status is Status.REFUTED:
            assert verdict.witness is not None
            assert bool(threat.contains(x0[row : row + 1], verdict.witness[None]))
            assert graph(verdict.witness[None]).argmax() != graph(x0[row : row + 1]).argmax()
        else:
            assert verdict.grade is Grade.FLOAT64


@pytest.mark.parametrize(
    "options",
    ["", ":engine=highs,tighten=crown", ":tighten=milp", pytest.param(":tighten=crown", marks=pytest.mark.slow)],
)
def test_time_limits_are_kept(options):
    graph = random_net([30, 90, 90, 90, 90, 4], 1, torch.float64)
    x0 = torch.rand(1, 30, generator=torch.Generator().manual_seed(1)).double()
    (verdict,) = judged(graph, x0, graph(x0).argmax(1), Linf(0.07), "milp" + options, seconds=1.5)
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, TIME_OVER)
    assert verdict.bound > -math.inf


@pytest.mark.parametrize("seed", range(4))
def test_z3_agrees(seed):
    z3 = pytest.importorskip("z3")
    graph, property = random_net([2, 3, 2], seed), random_rows(2, [1, 2], seed)
    low, high, threat, x0 = a_box(seed)
    solver = z3.Solver()
    x = [z3.Real(f"x{i}") for i in range(2)]
    for v, a, b in zip(x, low.tolist(), high.tolist(), strict=True):
        solver.add(v >= z3.RealVal(str(a)), v <= z3.RealVal(str(b)))

    def affine(weight, bias, values):
        rows = zip(weight.tolist(), bias.tolist(), strict=True)
        return [
            z3.Sum([z3.RealVal(str(w)) * v for w, v in zip(row, values, strict=True)]) + z3.RealVal(str(c))
            for row, c in rows
        ]

    hidden = [z3.If(z > 0, z, 0) for z in affine(graph.constant("w0"), graph.constant("b0"), x)]
    rows = affine(property.weight, property.offset, affine(graph.constant("w1"), graph.constant("b1"), hidden))
    solver.add(z3.Or([z3.And([rows[i] <= 0 for i in (property.group == g).nonzero()[:, 0].tolist()]) for g in (0, 1)]))
    bound, margin = outcome("milp", graph, x0, threat, property)
    assert (bound > 0) == (solver.check() == z3.unsat)
    assert (margin <= 0) == (solver.check() == z3.sat)
