"""Threats: projections, steps and samples against solvers and definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.threat import Threat

BALLS = [Linf(0.2), L2(0.6), L1(1.1), Linf(0.3, (-1.0, 1.0)), L2(8.0, (0.0, 255.0)), L1(20.0, (0.0, 255.0))]
named = pytest.mark.parametrize("threat", BALLS, ids=str)


def uniform(shape: tuple[int, ...], threat: Threat, seed: int = 0) -> Tensor:
    low, high = threat.domain
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * x


def streams(rows: int) -> RowRandom:
    return RowRandom(row_seeds(0, range(rows), "threat"))


@named
def test_samples_and_projections_lie_inside_and_near_the_edge(threat: Threat) -> None:
    x0 = uniform((400, 3, 5), threat)
    sample = threat.sample(x0, streams(400))
    assert threat.contains(x0, sample).all()
    assert threat.distance(x0, sample).max() > 0.7 * threat.radius
    far = x0 + threat.radius * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    for x in (far, uniform(x0.shape, threat, 2), 1e6 * far):
        assert threat.contains(x0, threat.project(x0, x)).all()
    torch.testing.assert_close(threat.project(x0, sample), sample)
    assert not threat.contains(x0, x0 + 1.01 * threat.radius).any()


@named
def test_float32_rounding_keeps_projections_inside_in_high_dimension(threat: Threat) -> None:
    x0 = uniform((3, 3, 100, 100), threat)
    direction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)) * threat.radius
    for scale in (0.01, 1.0, 100.0):
        assert threat.contains(x0, threat.project(x0, x0 + scale * direction)).all()


@pytest.mark.parametrize("norm", [1, 2])
def test_projection_against_quadratic_programming(norm: int) -> None:
    rng = np.random.default_rng(0)
    rows = 150
    x0 = rng.random((rows, 6))
    x0[::3] = x0[::3].round()  # on the domain's edges
    x = x0 + rng.normal(size=x0.shape) * rng.choice([0.1, 0.5, 2.0], (rows, 1))
    threat = L1(0.8) if norm == 1 else L2(0.5)
    ours = threat.project(torch.tensor(x0), torch.tensor(x))
    assert threat.contains(torch.tensor(x0), ours).all()
    for start, point, near in zip(x0, x, ours.numpy()):
        if norm == 2:  # not the nearest point, but one that gives away less length than shrinking before clipping
            shrunk = start + (point - start) * min(1, threat.radius / np.linalg.norm(point - start))
            assert np.linalg.norm(near - start) >= np.linalg.norm(shrunk.clip(0, 1) - start) - 1e-9
            continue
        bounds = [(0, 1 - a) for a in start] + [(0, a) for a in start]
        room = {"type": "ineq", "fun": lambda v: 0.8 - v.sum(), "jac": lambda v: -np.ones(12)}
        away = point - start
        exact = minimize(
            lambda v, away=away: ((v[:6] - v[6:] - away) ** 2).sum(),
            np.zeros(12),
            jac=lambda v, away=away: 2 * np.concatenate([v[:6] - v[6:] - away, away - v[:6] + v[6:]]),
            bounds=bounds,
            constraints=room,
            options={"ftol": 1e-14, "maxiter": 300},
        ).x
        assert np.abs(start + exact[:6] - exact[6:] - near).max() < 1e-4


def test_l1_projection_of_a_row_does_not_depend_on_the_others() -> None:
    x0 = uniform((50, 40), L1(1.0))
    x = x0 + 0.1 * torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 2, 50)[:, None]
    whole = L1(1.0).project(x0, x)
    for i in range(50):
        assert torch.equal(L1(1.0).project(x0[i : i + 1], x[i : i + 1])[0], whole[i])


@named
def test_steepest_step_has_length_one_and_attains_the_dual_norm(threat: Threat) -> None:
    grad = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
    step = threat.steepest(grad)
    dual = {"linf": 1.0, "l2": 2.0, "l1": math.inf}[threat.norm]
    torch.testing.assert_close((step * grad).flatten(1).sum(1), torch.linalg.vector_norm(grad.flatten(1), dual, dim=1))
    torch.testing.assert_close(threat.distance(torch.zeros_like(step), step).float(), torch.ones(20))
    assert threat.steepest(torch.zeros_like(grad)).abs().max() == 0
    faint = threat.steepest(grad * 1e-30)
    torch.testing.assert_close(faint, step, atol=1e-4, rtol=1e-4)


def test_steps_do_not_push_coordinates_out_of_the_domain() -> None:
    x = torch.tensor([[0.0, 1.0, 0.5]])
    grad = torch.tensor([[3.0, -3.0, 1.0]])  # walking against it leaves the domain in the first two
    for threat in (L1(1.0), L2(1.0)):
        assert threat.steepest(grad, x).tolist() == [[0.0, 0.0, 1.0]]


@named
def test_extreme_is_the_least_of_a_linear_function(threat: Threat) -> None:
    x0 = uniform((30, 7), threat)
    grad = torch.randn(30, 7, generator=torch.Generator().manual_seed(3))
    grad[0] = 0
    best = threat.extreme(x0, grad)
    value = (grad * best).sum(1)
    assert threat.contains(x0, best).all()
    assert torch.equal(best[0], x0[0])
    rng = streams(30)
    for _ in range(200):
        assert ((grad * threat.sample(x0, rng)).sum(1) >= value - 1e-4 * threat.domain[1]).all()
    walk = x0  # projected descent comes to the same value
    for length in (0.3, 0.1, 0.03, 0.01, 0.003):
        for _ in range(60):
            walk = threat.project(x0, walk - length * threat.radius * threat.steepest(grad, walk))
    reached = ((x0 - walk) * grad).sum(1) / ((x0 - best) * grad).sum(1).clamp(min=1e-9)
    assert (reached[1:] > 0.98).all()
    assert (reached[1:] < 1.001).all()
    lower = threat.lowest(x0, grad[:, None])[:, 0]
    assert (lower <= value + 1e-5 * threat.domain[1]).all()


def test_box_threat() -> None:
    low, high = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 2.0, 3.0])
    box, x0 = Box(lower=low, upper=high), torch.zeros(500, 3)
    sample = box.sample(x0, streams(500))
    assert box.contains(x0, sample).all()
    assert (sample[:, 1] == 2).all()
    assert sample[:, 2].min() < -0.8
    assert not box.contains(x0, sample + 1e-3).any()
    grad = torch.tensor([[1.0, 1.0, -1.0]])
    assert box.extreme(x0[:1], grad).tolist() == [[0.0, 2.0, 3.0]]
    assert box.steepest(grad).tolist() == [[0.5, 0.0, -2.0]]
    assert box.distance(x0[:1], torch.tensor([[1.0, 2.0, 1.0]])).item() == 1
    with pytest.raises(InputError, match="above its upper bound"):
        Box(lower=high, upper=low)
    with pytest.raises(InputError, match="needs both"):
        Box(lower=low)


@pytest.mark.parametrize("threat", [Linf(8 / 255, levels=255), L2(0.5, levels=255), L1(2.0, levels=255)], ids=str)
def test_deployed_points_lie_on_the_grid_and_inside(threat: Threat) -> None:
    x0 = (uniform((300, 20), threat) * 255).round() / 255
    x = threat.sample(x0, streams(300))
    deployed = threat.deploy(x0, x)
    assert threat.contains(x0, deployed).all()
    assert ((deployed - x).abs() < 1.01 / 255).all()
    assert torch.equal(threat.deploy(x0, deployed), deployed)
    assert torch.equal(threat.deploy(x0, x0), x0)
    off = deployed + 0.3 / 255
    assert not threat.at(1e3).contains(x0, off).any()


def test_a_full_step_survives_deployment() -> None:
    x0 = torch.arange(0, 256).reshape(-1, 1) / 255
    threat = Linf(8 / 255, levels=255)
    moved = threat.deploy(x0, threat.project(x0, x0 + 8 / 255))
    assert ((moved - x0)[:248] * 255).round().unique().tolist() == [8]
    assert threat.contains(x0, moved).all()


def test_the_tolerance_grows_with_the_scale_of_the_data() -> None:
    x0 = torch.tensor([[200.3, 17.7]])
    threat = Linf(1.0, (0.0, 255.0))
    assert threat.contains(x0, threat.project(x0, x0 + 5)).all()
    assert Linf(0.1).reach < 0.1 + 3e-7
    low, high = threat.box(x0)
    assert (low <= x0 - 1).all()
    assert (high >= x0 + 1).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["linf", "l2", "l1"]), st.floats(1e-4, 3))
def test_projection_is_idempotent_and_inside(seed: int, norm: str, radius: float) -> None:
    threat = {"linf": Linf, "l2": L2, "l1": L1}[norm](radius)
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(4, 9, generator=generator)
    x = x0 + torch.randn(4, 9, generator=generator) * 10 ** float(torch.empty(1).uniform_(-4, 2, generator=generator))
    once = threat.project(x0, x)
    assert threat.contains(x0, once).all()
    torch.testing.assert_close(threat.project(x0, once), once, atol=1e-6, rtol=1e-5)
