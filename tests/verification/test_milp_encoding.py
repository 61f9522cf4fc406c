"""Programs hold every point of the network, and the relaxation of a neuron is the one of the papers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_net, relu_net
from varied import VARIED

from withstand.bounds.refine import crown
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.rng import RowRandom
from withstand.core.sparse import L0
from withstand.verification.milp.highs import Solver, least_by_integers
from withstand.verification.milp.pooling import windows
from withstand.verification.milp.program import Form, Program, columns_of, constants
from withstand.verification.milp.stages import stages_of
from withstand.verification.milp.tighten import Effort, Far, encode

FREE = (-math.inf, math.inf)
THREATS = [Linf(0.4), L1(0.6), L2(0.5), L0(1), Linf(1.0, FREE), L1(1.5, FREE), L2(1.0, FREE)]


def end_of(moments):
    """What a generator returns."""
    while True:
        try:
            next(moments)
        except StopIteration as end:
            return end.value


def last_of(states):
    """The last state of a search."""
    return list(states)[-1]


def encoded(graph, threat, x0, far: Far = "crown"):
    return end_of(encode(stages_of(graph), crown(graph, threat, x0), Effort(far, seconds=0.5)))


def check_points(graph, threat, seed, far):
    """Points of the threat break nothing, and the outputs' forms are the graph's outputs."""
    x0 = torch.rand(1, *graph.input_shape, generator=torch.Generator().manual_seed(seed)).double()
    made = encoded(graph, threat, x0, far)
    points = threat.sample(x0.expand(40, *x0.shape[1:]), RowRandom(torch.arange(40) + seed))
    outputs = graph(points)
    for x, y in zip(points, outputs, strict=True):
        columns = made.program.point(x.flatten().numpy())
        assert made.program.broken(columns) <= 1e-9
        assert made.output.value(columns) == pytest.approx(y.flatten().numpy(), abs=1e-9)
        assert made.region.inputs.value(columns) == pytest.approx(x.flatten().numpy(), abs=1e-12)


@pytest.mark.parametrize("far", ["crown", "lp", "milp"])
@pytest.mark.parametrize("name", VARIED)
def test_programs_hold_every_point(name, far):
    for number, threat in enumerate(THREATS[:4]):
        check_points(VARIED[name](number), threat, number, far)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(0, 10**6),
    st.sampled_from(THREATS),
    st.sampled_from(["crown", "lp", "milp"]),
)
def test_programs_hold_every_point_of_random_networks(sizes, seed, threat, far):
    check_points(random_net([3, *sizes, 2], seed), threat, seed, far)


def test_only_straight_networks_and_norm_balls_are_exact():
    x0 = torch.full((1, 2), 0.5).double()
    assert encoded(VARIED["kinked"](), Linf(0.3), x0).program.exact
    assert encoded(VARIED["kinked"](), L2(0.3), x0).program.exact
    assert not encoded(VARIED["kinked"](), L0(1), x0).program.exact
    assert not encoded(VARIED["smooth"](), Linf(0.3), x0).program.exact


def test_a_neuron_that_bounds_decide_costs_no_column():
    one = torch.ones(1, 1).double()
    graph = relu_net([one, one], [2 * one[0], one[0]])
    made = encoded(graph, Linf(1.0, FREE), torch.zeros(1, 1).double())
    assert len(made.program) == 1
    assert not len(made.program.pairs)


def test_the_relaxation_of_a_neuron_is_its_triangle():
    """l = -1, u = 2: at z the largest relu is 2 / 3 * (z + 1), and each phase holds only its own side."""
    one = torch.ones(1, 1).double()
    graph = relu_net([one, one], [0.5 * one[0], 0 * one[0]])
    edge = 1.5 * one[0]
    made = encoded(graph, Box(lower=-edge, upper=edge), torch.zeros(1, 1).double())
    program, output = made.program, made.output
    assert program.high[program.pairs[0]] == pytest.approx([2.0, 1.0])
    z = made.region.inputs.shifted(0.5)
    for value in (-1.0, -0.4, 0.0, 0.8, 2.0):
        fixed = program.copy()
        fixed.constrain(z, value, value)
        largest = last_of(Solver(fixed).least(output.scaled(-np.ones(1))))
        assert -largest.bound == pytest.approx(2 / 3 * (value + 1), abs=1e-9)
        assert last_of(Solver(fixed).least(output)).bound == pytest.approx(max(value, 0.0), abs=1e-9)
        for side, held in ((0, value <= 0), (1, value >= 0)):
            state = last_of(Solver(fixed).least(output, program.pairs[0, [side]]))
            assert np.isfinite(state.bound) == held
        assert last_of(least_by_integers(fixed, output.scaled(-np.ones(1)))).bound == pytest.approx(
            -max(value, 0.0), abs=1e-6
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_any_multipliers_bound_a_program_from_below(seed, columns, rows):
    rng = np.random.default_rng(seed)
    program = Program()
    every = program.add(-rng.random(columns), rng.random(columns), lambda x: x)
    from scipy.sparse import csr_array

    middle = rng.uniform(program.low, program.high)
    forms = every.mapped(csr_array(rng.normal(size=(rows, columns))))
    room = rng.random(rows)
    program.constrain(forms, forms.value(middle) - room, np.where(rng.random(rows) < 0.5, np.inf, forms.value(middle)))
    goal = every.mapped(csr_array(rng.normal(size=(1, columns)))).shifted(rng.normal())
    state = last_of(Solver(program).least(goal))
    assert state.columns is not None
    assert state.dual is not None
    assert state.bound == pytest.approx(goal.value(state.columns)[0], abs=1e-8)
    for _ in range(5):
        bound = program.dual_bound(goal, rng.normal(size=rows) * 3)
        assert bound <= state.bound + 1e-9
    assert program.dual_bound(goal, state.dual) == state.bound


def test_an_empty_program_is_told_by_its_ray():
    program = Program()
    x = program.add(np.zeros(2), np.ones(2), lambda x: x)
    program.constrain(x[np.array([0])] + x[np.array([1])], 2.5, np.inf)
    assert last_of(Solver(program).least(columns_of(np.array([0])))).bound == np.inf


def test_forms():
    program = Program()
    a = program.add(np.zeros(2), np.ones(2), lambda x: x)
    b = program.add(np.zeros(1), np.ones(1), lambda c: c[:1] + c[1:2])
    columns = program.point(np.array([0.25, 0.5]))
    assert columns == pytest.approx([0.25, 0.5, 0.75])
    both: Form = a - b[np.zeros(2, dtype=int)] + constants(np.array([1.0, 2.0]))
    assert both.value(columns) == pytest.approx([0.5, 1.75])
    assert program.least(both) == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((2, 2), (2, 2), (0, 0), (1, 1)), ((3, 2), (1, 2), (1, 1), (1, 2)), ((3, 3), (2, 2), (1, 0), (2, 1))],
)
def test_windows_are_those_of_the_operator(kernel, stride, padding, dilation, ceil_mode):
    attrs = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    x = torch.rand(2, 7, 8, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.max_pool2d(x[None], kernel, stride, padding, dilation, ceil_mode)[0]
    index = windows(x.shape, pooled.shape, attrs)
    flat = np.append(x.flatten().numpy(), -np.inf)
    assert (flat[index].max(1) == pooled.flatten().numpy()).all()


def test_a_box_program_is_its_box():
    low, high = torch.tensor([-1.0, 0.5]).double(), torch.tensor([2.0, 0.5]).double()
    graph = relu_net([torch.eye(2).double()], [torch.zeros(2).double()])
    made = encoded(graph, Box(lower=low, upper=high), low[None])
    assert made.program.low == pytest.approx([-1.0, 0.5])
    assert made.program.high == pytest.approx([2.0, 0.5])
