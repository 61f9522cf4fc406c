"""The penalised inner problem of WRM and its objective, against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from withstand.hardening.objective import build_objective
from withstand.hardening.objectives.wrm import WRM
from withstand.hardening.parts.penalised import penalised_slope, transported
from withstand.hardening.state import State

D = 6


def quadratic(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, float]:
    """A, b, points, and the largest eigenvalue of A."""
    rng = torch.Generator().manual_seed(seed)
    a = torch.randn(D, D, dtype=torch.float64, generator=rng)
    a, b = (a + a.T) / 2, torch.randn(D, dtype=torch.float64, generator=rng)
    return a, b, torch.randn(9, D, dtype=torch.float64, generator=rng), float(torch.linalg.eigvalsh(a)[-1])


def value(a: Tensor, b: Tensor, z: Tensor) -> Tensor:
    return (z @ a * z).sum(1) / 2 + z @ b


def best(a: Tensor, b: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Where a quadratic loss less gamma times the squared distance is largest."""
    step = torch.linalg.solve(2 * gamma * torch.eye(D, dtype=torch.float64) - a, (x @ a + b).T)
    return x + step.T


@pytest.mark.parametrize("factor", [3.0, 1.0, 0.6, 0.4])
def test_the_walk_on_a_quadratic_is_known_in_closed_form(factor: float) -> None:
    """In the direction of an eigenvalue e the error shrinks by 1 - (1 - e / (2 gamma)) / sqrt(t + 1) at turn t, and
    grows without end where e is above 2 gamma."""
    a, b, x, largest = quadratic()
    gamma = factor * largest
    z = transported(lambda z: value(a, b, z), x, gamma, 15)
    values, vectors = torch.linalg.eigh(a)
    turns = torch.arange(1, 17, dtype=torch.float64)[:, None]
    left = (1 - (1 - values / (2 * gamma)) / turns.sqrt()).prod(0)
    true = best(a, b, x, gamma)
    torch.testing.assert_close(z, true + (x - true) @ vectors * left @ vectors.T)
    near = (z - true).norm() / (x - true).norm()
    assert near < 0.1 if factor >= 1 else near > 0.1


def test_more_steps_converge_where_fifteen_do_not() -> None:
    a, b, x, largest = quadratic()
    gamma = 0.6 * largest
    true = best(a, b, x, gamma)
    few, many = (transported(lambda z: value(a, b, z), x, gamma, steps) for steps in (15, 2000))
    assert (few - true).norm() > 0.1 * (true - x).norm()
    torch.testing.assert_close(many, true, rtol=1e-4, atol=1e-4)


def test_full_steps_contract_as_fast_as_the_ratio_of_turns() -> None:
    a, b, x, _ = quadratic()
    largest = float(torch.linalg.matrix_norm(a, 2))
    gamma = 0.6 * largest
    true = best(a, b, x, gamma)
    for steps in (1, 5, 20):
        z = transported(lambda z: value(a, b, z), x, gamma, steps, step=lambda turn: 1.0)
        assert (z - true).norm() <= 1.001 * (largest / (2 * gamma)) ** (steps + 1) * (x - true).norm()


def test_a_linear_loss_moves_every_point_by_its_slope() -> None:
    _, w, x, _ = quadratic()
    for gamma in (0.1, 1.0, 10.0):
        z = transported(lambda z, w=w: z @ w, x, gamma, 0)
        torch.testing.assert_close(z, x + w / (2 * gamma))
        phi = z @ w - gamma * (z - x).square().sum(1)
        torch.testing.assert_close(phi, x @ w + w @ w / (4 * gamma))


def test_rows_stop_at_the_tolerance_and_others_go_on() -> None:
    a, b, x, largest = quadratic()
    gamma = 0.6 * largest
    loss = lambda z: value(a, b, z)  # noqa: E731
    x[0] = torch.linalg.solve(-a, b) + 1e-4  # nearly flat there
    start = penalised_slope(loss, x, x, gamma).norm(dim=1)
    tolerance = float(start[1:].min()) / 10
    assert start[0] < tolerance
    z = transported(loss, x, gamma, 2000, tolerance)
    assert torch.equal(z[0], x[0])
    ends = penalised_slope(loss, x, z, gamma).norm(dim=1)
    assert (ends <= tolerance).all()
    assert (ends[1:] > tolerance / 100).any()


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(D, 8), nn.ELU(), nn.Linear(8, 3))


def batch() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(10, D, generator=rng), torch.randint(0, 3, (10,), generator=rng)


def test_a_larger_gamma_keeps_points_nearer_down_to_plain_training() -> None:
    model, (x, y), state = network(), batch(), State("linf:0.1")
    moved = [float((WRM(gamma=gamma).find(model, x, y, state) - x).norm()) for gamma in (0.3, 1.0, 5.0, 1e6)]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-5
    plain = build_objective("natural")(model, x, y, state).value
    torch.testing.assert_close(WRM(gamma=1e6)(model, x, y, state).value, plain)


def test_the_threat_plays_no_part_and_the_domain_is_left() -> None:
    model, (x, y) = network(), batch()
    found = [WRM(gamma=0.05).find(model, x, y, State(threat)) for threat in ("linf:0", "linf:0.1", "l1:3")]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert bool((found[0] < 0).any() | (found[0] > 1).any())


def test_the_cost_in_the_logs_is_the_mean_squared_distance() -> None:
    model, (x, y), state = network(), batch(), State("linf:0.1")
    at = WRM().find(model, x, y, state)
    cost = WRM().loss(model, x, at, y, state).logs["cost"]
    assert float(cost) == pytest.approx(sum(math.dist(a, b) ** 2 for a, b in zip(at.tolist(), x.tolist())) / 10)
