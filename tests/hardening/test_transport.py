"""Optimal transport between batches, against POT, assignment problems and limits."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from withstand.hardening.parts.transport import cosine_cost, ipot, sinkhorn, transport_cost

N = 12


def costs(n: int = N, m: int = N, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return cosine_cost(torch.randn(n, 10, generator=rng), torch.randn(m, 10, generator=rng)).double()


def assignment(cost: Tensor) -> float:
    rows, columns = linear_sum_assignment(cost.numpy())
    return float(cost.numpy()[rows, columns].sum()) / len(rows)


@pytest.mark.parametrize("reg", [0.05, 0.5, 10.0])
@pytest.mark.parametrize("m", [N, 7])
def test_sinkhorn_is_that_of_pot(reg: float, m: int) -> None:
    cost = costs(m=m)
    plan = sinkhorn(cost, reg, 20_000, 1e-12)
    weights = np.full(N, 1 / N), np.full(m, 1 / m)
    theirs = ot.sinkhorn(*weights, cost.numpy(), reg, method="sinkhorn_log", numItermax=20_000, stopThr=1e-12)
    np.testing.assert_allclose(plan.numpy(), np.asarray(theirs), atol=1e-9)


@pytest.mark.parametrize("reg", [0.01, 0.1, 1.0])
def test_sinkhorn_has_equal_marginals(reg: float) -> None:
    plan = sinkhorn(costs(), reg, 2000)
    torch.testing.assert_close(plan.sum(0), torch.full((N,), 1 / N, dtype=torch.float64))
    assert (plan.sum(1) - 1 / N).abs().sum() <= 1e-3


def test_columns_are_exact_when_the_iterations_end_early() -> None:
    plan = sinkhorn(costs(), 0.01, 2)
    torch.testing.assert_close(plan.sum(0), torch.full((N,), 1 / N, dtype=torch.float64))
    assert (plan.sum(1) - 1 / N).abs().sum() > 1e-3


def test_costs_near_those_of_the_best_assignment() -> None:
    for seed in range(3):
        cost = costs(seed=seed)
        best = assignment(cost)
        exact = ot.emd2(np.full(N, 1 / N), np.full(N, 1 / N), cost.numpy())
        assert best == pytest.approx(exact)
        for plan in (sinkhorn(cost, 0.01, 2000, 1e-4), ipot(cost)):
            assert best - 1e-4 <= transport_cost(cost, plan) <= best + 1e-2
        assert transport_cost(cost, ipot(cost, iterations=1000)) == pytest.approx(best, abs=1e-4)


def test_ipot_agrees_with_sinkhorn_and_with_pot() -> None:
    cost = costs(seed=3)
    assert abs(transport_cost(cost, ipot(cost)) - transport_cost(cost, sinkhorn(cost, 0.01, 1000))) < 1e-2
    plan = ipot(cost, iterations=500)
    torch.testing.assert_close(plan.sum(0), torch.full((N,), 1 / N, dtype=torch.float64))
    theirs = ot.emd(np.full(N, 1 / N), np.full(N, 1 / N), cost.numpy())
    np.testing.assert_allclose(plan.numpy(), theirs, atol=1e-3)


def test_a_large_regularisation_spreads_the_plan_evenly() -> None:
    torch.testing.assert_close(sinkhorn(costs(), 1e5), torch.full((N, N), 1 / N**2, dtype=torch.float64))


def test_equal_batches_stay_where_they_are() -> None:
    rows = torch.eye(N)
    cost = cosine_cost(rows, rows)
    plan = sinkhorn(cost, 0.01)
    assert transport_cost(cost, plan) < 1e-6
    torch.testing.assert_close(plan, torch.eye(N) / N)


@pytest.mark.parametrize("solve", [lambda cost: sinkhorn(cost, 0.01), ipot])
def test_the_order_of_a_batch_does_not_matter(solve) -> None:
    cost = costs()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(solve(cost)[:, order], solve(cost[:, order]))


@pytest.mark.parametrize("solve", [lambda cost: sinkhorn(cost, 0.01), ipot])
def test_one_point_pays_its_cosine(solve) -> None:
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])
    cost = cosine_cost(a, b)
    assert transport_cost(cost, solve(cost)).item() == pytest.approx(1 - 0.6)


def test_no_regularisation_is_too_small_for_float32() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    cost = cosine_cost(rows, rows.flip(0))
    torch.testing.assert_close(cost, torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(sinkhorn(cost, 1e-6), torch.tensor([[0.0, 0.5], [0.5, 0.0]]))


@pytest.mark.parametrize("solve", [lambda cost: sinkhorn(cost, 0.2, 50, 0.0), lambda cost: ipot(cost, 1.0, 10)])
def test_the_gradient_is_that_of_the_whole_computation(solve) -> None:
    cost = costs(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda cost: transport_cost(cost, solve(cost)), cost)


def test_cosines_of_zero_rows_are_finite() -> None:
    cost = cosine_cost(torch.zeros(2, 3), torch.randn(2, 3))
    assert torch.equal(cost, torch.ones(2, 2))
    assert math.isfinite(transport_cost(cost, sinkhorn(cost, 0.01)))
