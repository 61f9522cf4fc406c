"""Programs that HiGHS cannot take as they are: numbers too large, no columns, no solution, no least value."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from varied import made, normal

from withstand.core.balls import L1, L2, Linf
from withstand.core.budget import Budget
from withstand.core.judge import Judge, Status
from withstand.core.property import Linear
from withstand.core.registry import build
from withstand.graph.ir import Graph, Node
from withstand.verification.milp.closest import closest
from withstand.verification.milp.highs import LARGEST, Solver, least_by_integers
from withstand.verification.milp.leaf import Domain, Leaf, ReluState, Rows
from withstand.verification.milp.program import Form, Program, columns_of, constants
from withstand.verification.search import search


def form(*coefficients: float, constant: float = 0.0) -> Form:
    return Form(csr_array(np.array([coefficients])), np.array([constant]))


def unit(size: int) -> Program:
    """A program of columns between 0 and 1."""
    program = Program()
    program.add(np.zeros(size), np.ones(size), lambda x: x)
    return program


def last(states):
    *_, state = states
    assert state.done
    return state


def test_a_row_too_large_for_the_solver_leaves_the_others_in_their_places():
    program = unit(2)
    program.constrain(form(1.0, 1.0), 1.5, np.inf)
    program.constrain(
        Form(csr_array(np.array([[1e20, -1e20], [0.0, 1.0]])), np.zeros(2)), -np.inf, np.array([0.0, 0.7])
    )
    solver = Solver(program)
    state = last(solver.least(form(1.0, 0.0)))
    assert state.dual is not None
    assert state.dual.shape == (3,)
    assert state.bound == pytest.approx(0.8)  # x0 >= 1.5 - x1 and x1 <= 0.7: the row that says x0 <= x1 is left out
    assert last(solver.least(form(0.0, 1.0))).bound == pytest.approx(0.5)


@pytest.mark.parametrize("size", [1e13, 1e16, 1e25, 1e100, 1e300])
def test_costs_too_large_for_the_solver_are_scaled(size):
    program = unit(2)
    program.constrain(form(1.0, 1.0), 1.0, np.inf)
    goal = form(size, 2 * size)
    for state in (
        last(Solver(program).least(goal)),
        last(Solver(program).whole(goal, columns_of(np.array([0])), None)),
    ):
        assert state.bound <= size
        assert state.bound >= size * (1 - 1e-6)


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_numbers_that_are_none_give_no_bound(odd):
    program = unit(2)
    program.constrain(form(1.0, odd), 0.0, np.inf)
    assert last(Solver(program).least(form(1.0, 0.0))).bound <= 0.0
    assert last(Solver(unit(2)).least(form(1.0, -odd))).bound == -np.inf


def test_edges_too_large_for_the_solver_are_none_to_it():
    program = Program()
    program.add(np.array([2 * LARGEST, -np.inf]), np.array([3 * LARGEST, -2 * LARGEST]), lambda x: x)
    program.constrain(form(1.0, 1.0), 0.0, np.inf)
    assert last(Solver(program).least(form(1.0, 0.0))).bound <= 2 * LARGEST
    assert last(Solver(program).least(form(0.0, 1.0))).bound <= -2 * LARGEST


def test_no_solution_no_least_value_and_no_columns():
    program = unit(1)
    program.constrain(form(1.0), 2.0, np.inf)
    assert last(Solver(program).least(form(1.0))).bound == np.inf
    free = Program()
    free.add(np.array([-np.inf]), np.array([np.inf]), lambda x: x)
    assert last(Solver(free).least(form(1.0))).bound == -np.inf
    assert last(Solver(Program()).least(constants(np.array([3.0])))).bound == pytest.approx(3.0)
    assert last(least_by_integers(Program(), constants(np.array([3.0])))).bound == pytest.approx(3.0)


def test_a_tree_of_the_solver_that_says_infeasible_proves_nothing():
    program = unit(1)
    program.constrain(form(1.0), 2.0, np.inf)
    assert last(Solver(program).whole(form(1.0), columns_of(np.array([0])), None)).bound == -np.inf


def test_a_bound_from_any_multipliers_gives_its_roundings_away():
    program = unit(2)
    program.constrain(form(1e9, 1e9), 1e9 / 3, np.inf)
    bound = program.dual_bound(form(1.0, 1.0), np.array([1e-9]))
    assert 1 / 3 - 1e-12 < bound < 1 / 3
    program.constrain(form(1e300, 0.0), 1e300, np.inf)
    assert program.dual_bound(form(1.0, 1.0), np.array([0.0, 1e200])) == -np.inf


def test_a_leaf_too_large_for_the_solver_keeps_plain_bounds():
    leaf = Leaf(ReluState(1, [(np.array([[1.0]]), np.zeros(1))]))
    small, huge = (
        leaf.least(
            Domain(np.array([-1.0]), np.array([1.0]), np.array([-size]), np.array([size]), np.zeros(1)),
            Rows(np.array([[size, 0.0]]), np.zeros(1)),
        )
        for size in (1.0, 1e20)
    )
    assert small.bound == pytest.approx(-1.0)
    assert small.x is not None
    assert huge.bound == pytest.approx(-1e20)
    assert huge.x is None


def exponential(seed: int, scale: float) -> Graph:
    draw = normal(seed)
    nodes = [
        Node("z", "linear", ("x", "w", "b")),
        Node("e", "exp", ("z",)),
        Node("s", "linear", ("e", "v")),
        Node("a", "relu", ("s",)),
        Node("y", "linear", ("a", "o")),
    ]
    constants = {"w": draw(3, 2) * scale, "b": draw(3), "v": draw(4, 3), "o": draw(2, 4)}
    return made(nodes, constants, (2,), 2)


@pytest.mark.parametrize("method", ["lp", "milp", "milp:tighten=milp", "milp:engine=highs", "lp:tighten=lp"])
@pytest.mark.parametrize("scale", [0.03, 0.3, 1.0])
def test_exponentials_of_large_values_have_bounds_below_their_samples(method, scale):
    for seed, threat in enumerate((Linf(5, (0, 255)), L2(5, (0, 255)), L1(9, (0, 255)))):
        graph = exponential(seed, scale)
        x0 = torch.rand(2, 2, generator=torch.Generator().manual_seed(seed)).double() * 255
        many = x0.repeat(200, 1)
        points = threat.project(
            many, many + 5 * (2 * torch.rand(400, 2, generator=torch.Generator().manual_seed(9)) - 1)
        )
        value = graph(points).reshape(200, 2, 2)[:, :, 0]
        offset = -value.amin(0) + 0.3 * (value[0] - value.amin(0)).abs()
        weight = torch.tensor([[1.0, 0.0]]).double()
        rows = Linear(weight.expand(2, 1, 2), offset[:, None], torch.zeros(1, dtype=torch.long))
        judge = Judge(graph, None, x0, torch.arange(2), threat, rows)
        for verdict in search(judge, graph, [build("verifier", method)], Budget(20)):
            assert verdict.status in (Status.PROVED, Status.REFUTED, Status.UNKNOWN, Status.INVALID)
        least = (value + offset).amin(0)
        assert bool((judge.bound <= least + 1e-9 * (1 + value.abs().amax())).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_closest_bears_exponentials_of_large_values(norm):
    for scale in (0.03, 0.3):
        graph = exponential(1, scale)
        x0 = torch.tensor([[120.0, 60.0]]).double()
        y = graph(x0).argmax(1)
        rows = Linear((torch.eye(2)[y] - torch.eye(2)[1 - y]).double(), torch.zeros(1).double(), torch.zeros(1).long())
        found = closest(graph, x0, y, rows, norm, (0.0, 255.0), Budget(20))
        assert found.bound <= found.distance
