"""The distance of the nearest violation, against closed forms, bisection and sampling."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import distance_net, exact_least_margin, random_net, random_rows, relu_net
from varied import VARIED

from withstand.core.balls import L1, L2, Linf
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.property import Argmax, Linear
from withstand.core.rng import RowRandom
from withstand.verification.milp.closest import closest

FREE = (-math.inf, math.inf)
BELOW_HALF = Linear(-torch.ones(1, 1).double(), torch.tensor([0.5]).double(), torch.zeros(1, dtype=torch.long))
NO_TARGET = torch.zeros(1, dtype=torch.long)


@pytest.mark.parametrize(
    ("norm", "domain", "distance"),
    [
        ("linf", FREE, 0.25),
        ("linf", (0.0, 1.0), 0.5),
        ("l1", FREE, 0.5),
        ("l1", (0.0, 1.0), 0.5),
        ("l2", FREE, 0.125**0.5),
        ("l2", (0.0, 1.0), 0.5),
    ],
)
def test_the_distance_at_which_two_inputs_differ_by_a_half(norm, domain, distance):
    x0 = torch.zeros(1, 2).double()
    found = closest(distance_net(), x0, NO_TARGET, BELOW_HALF, norm, domain)
    assert found.exact
    assert found.bound == pytest.approx(distance, rel=2e-6)
    assert found.bound <= distance + 1e-12
    assert found.distance == pytest.approx(distance, rel=1e-4)
    assert float(BELOW_HALF.margin(distance_net()(found.witness), NO_TARGET)) <= 0


def test_a_linear_model_has_its_closed_form():
    """The margin over the dual norm of its slope."""
    weight = torch.tensor([[2.0, -1.0, 0.5], [-1.0, 1.0, 0.0]]).double()
    graph = relu_net([weight], [torch.tensor([1.0, 0.0]).double()])
    x0 = torch.tensor([[0.2, 0.1, -0.3]]).double()
    slope = weight[0] - weight[1]
    margin = float(Argmax().margin(graph(x0), NO_TARGET))
    for norm, dual in (("linf", 1), ("l1", math.inf), ("l2", 2)):
        found = closest(graph, x0, NO_TARGET, Argmax(), norm, FREE)
        assert found.bound == pytest.approx(margin / float(torch.linalg.vector_norm(slope, dual)), rel=2e-6)
        assert found.distance == pytest.approx(found.bound, rel=1e-4)


def check_patterns(sizes, seed):
    """Just inside the bound every pattern holds, just outside the distance one does not."""
    graph, property = random_net([2, *sizes, 2], seed), random_rows(2, [1, 2], seed)
    x0 = torch.full((1, 2), 0.5).double()
    if float(property.margin(graph(x0), NO_TARGET)) <= 0:
        return
    found = closest(graph, x0, NO_TARGET, property, "linf", (0.0, 1.0))
    assert found.exact
    least = [
        exact_least_margin(graph, property, (x0[0] - radius).clamp(min=0), (x0[0] + radius).clamp(max=1))
        for radius in (min(found.bound, 0.5) - 1e-6, min(found.distance, 0.5) + 1e-6)
    ]
    assert least[0] > 0
    if found.witness is None:
        assert found.bound == math.inf
        assert least[1] > 0
    else:
        assert least[1] < 1e-9
        assert found.distance == pytest.approx(found.bound, abs=1e-5)


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(2, 4), min_size=1, max_size=2), st.integers(0, 10**6))
def test_the_linf_distance_agrees_with_all_phase_patterns(sizes, seed):
    check_patterns(sizes, seed)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(2, 4), min_size=1, max_size=2), st.integers(0, 10**6))
def test_many_linf_distances_agree_with_all_phase_patterns(sizes, seed):
    check_patterns(sizes, seed)


@pytest.mark.parametrize(("norm", "ball"), [("linf", Linf), ("l1", L1), ("l2", L2)])
@pytest.mark.parametrize("name", ["residual", pytest.param("pooled", marks=pytest.mark.slow), "kinked"])
def test_nothing_nearer_than_the_bound_violates(name, norm, ball):
    graph = VARIED[name](1)
    x0 = torch.rand(1, *graph.input_shape, generator=torch.Generator().manual_seed(1)).double()
    y = graph(x0).argmax(1)
    found = closest(graph, x0, y, Argmax(), norm, (0.0, 1.0), Budget(20))
    if found.witness is not None:
        assert float(Argmax().margin(graph(found.witness), y)) <= 0
        assert found.bound <= found.distance
    threat = ball(min(found.bound, 10.0) * (1 - 2e-6), (0.0, 1.0))
    points = threat.sample(x0.expand(2000, *x0.shape[1:]), RowRandom(torch.arange(2000)))
    assert float(Argmax().margin(graph(points), y.expand(2000)).min()) > 0


def test_a_violation_at_x0_is_at_no_distance():
    x0 = torch.tensor([[0.0, 1.0]]).double()
    found = closest(distance_net(), x0, NO_TARGET, BELOW_HALF)
    assert (found.bound, found.distance, found.exact) == (0.0, 0.0, True)


def test_no_violation_in_a_bounded_domain_is_an_infinite_distance():
    far = Linear(-torch.ones(1, 1).double(), torch.tensor([1.5]).double(), torch.zeros(1, dtype=torch.long))
    found = closest(distance_net(), torch.zeros(1, 2).double(), NO_TARGET, far)
    assert (found.bound, found.distance, found.witness, found.exact) == (math.inf, math.inf, None, True)


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match="linf"):
        closest(distance_net(), torch.zeros(1, 2).double(), NO_TARGET, BELOW_HALF, "l-inf")


def test_an_unbounded_domain_without_a_violation_is_refused():
    graph = relu_net([torch.zeros(1, 2).double()], [torch.ones(1).double()])
    always = Linear(torch.ones(1, 1).double(), torch.zeros(1).double(), torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="finite edges"):
        closest(graph, torch.zeros(1, 2).double(), NO_TARGET, always, "linf", FREE)


def test_a_search_cut_short_keeps_its_bound_and_witness():
    graph = random_net([20, 60, 60, 60, 3], 1, torch.float64)
    x0 = torch.rand(1, 20, generator=torch.Generator().manual_seed(1)).double()
    found = closest(graph, x0, graph(x0).argmax(1), Argmax(), budget=Budget(1.5))
    assert 0 <= found.bound <= found.distance
    assert not found.exact
