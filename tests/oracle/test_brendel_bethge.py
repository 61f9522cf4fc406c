"""Brendel and Bethge's attack: each step against a general solver, distances against the known ones."""

# pyright: reportArgumentType=false, reportCallIssue=false

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_minimal_norm import NORMS, Planes, domains, ratios, starts
from test_one_hidden_layer import networks

from withstand.attacks.bb import BB
from withstand.attacks.parts.trust_region import shortest
from withstand.core.closest import closest

QUICK = BB(steps=50)
POWERS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}


def nearest_in_reach(
    norm: str, offset: np.ndarray, slope: np.ndarray, fall: float, radius: float, ends: tuple[np.ndarray, np.ndarray]
) -> float:
    """The least norm of offset + d with slope . d = -fall, |d| <= radius and offset + d between the ends, by a solver
    that knows nothing of attacks; NaN where it finds none."""
    size = len(offset)
    slack = {"l2": 0, "linf": 1, "l1": size}[norm]
    meets = [
        {"type": "eq", "fun": lambda z: slope @ z[:size] + fall},
        {"type": "ineq", "fun": lambda z: radius**2 - z[:size] @ z[:size]},
    ]
    if slack:
        meets.append({"type": "ineq", "fun": lambda z: z[size:] - (offset + z[:size])})
        meets.append({"type": "ineq", "fun": lambda z: z[size:] + (offset + z[:size])})

    def cost(z: np.ndarray) -> float:
        return z[size:].sum() if slack else ((offset + z[:size]) ** 2).sum()

    bounds = [*zip(ends[0] - offset, ends[1] - offset), *[(0, None)] * slack]
    first = np.concatenate([-fall * slope / (slope @ slope), np.full(slack, np.abs(offset).max())])
    end = minimize(cost, first, bounds=bounds, constraints=meets, options={"ftol": 1e-12, "maxiter": 500})
    if not end.success or abs(slope @ end.x[:size] + fall) > 1e-6:
        return math.nan
    return float(np.linalg.norm(offset + end.x[:size], POWERS[norm]))


@domains
@pytest.mark.parametrize("norm", NORMS)
def test_steps_end_nearest_to_the_input_of_all_points_in_reach(norm: str, domain: tuple[float, float]) -> None:
    rows, size = 30, 5
    x0, generator = starts(rows, size, domain), torch.Generator().manual_seed(1)
    noise, slope = torch.randn(2, rows, size, generator=generator, dtype=torch.float64)
    x = (x0 + 0.4 * noise).clamp(*domain)
    fall = 0.1 * torch.randn(rows, generator=generator, dtype=torch.float64)
    radius = 0.05 + 0.5 * torch.rand(rows, generator=generator, dtype=torch.float64)
    move = shortest(norm, x0, x, slope, fall, radius, domain)
    assert (torch.linalg.vector_norm(move, dim=1) <= radius * (1 + 1e-9)).all()
    assert ((x + move >= domain[0] - 1e-9) & (x + move <= domain[1] + 1e-9)).all()
    length = torch.linalg.vector_norm(x + move - x0, POWERS[norm], dim=1)
    reached = 0
    for i in range(rows):
        ends = domain[0] - x0[i].numpy(), domain[1] - x0[i].numpy()
        offset, reach = (x[i] - x0[i]).numpy(), float(radius[i])
        truth = nearest_in_reach(norm, offset, slope[i].numpy(), float(fall[i]), reach, ends)
        if not math.isnan(truth):
            reached += 1
            assert float(slope[i] @ move[i]) == pytest.approx(-float(fall[i]), abs=1e-4)
            assert truth - 1e-4 <= float(length[i]) <= truth + 0.03 * reach
    assert reached > rows / 2


def test_steps_that_do_not_reach_the_plane_go_straight_towards_it() -> None:
    x0 = starts(4, 5, (-math.inf, math.inf))
    slope = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    straight = -0.1 * slope / torch.linalg.vector_norm(slope, dim=1, keepdim=True)
    for norm in NORMS:
        fall, radius = torch.full((4,), 9.0).double(), torch.full((4,), 0.1).double()
        move = shortest(norm, x0, x0 + 0.3, slope, fall, radius, (-math.inf, math.inf))
        torch.testing.assert_close(move, straight)


def test_slopes_and_reaches_of_zero_are_survived() -> None:
    x0, zero = torch.full((3, 4), 0.5), torch.zeros(3)
    slope = torch.tensor([[0.0] * 4, [1.0, 2, 0, 0], [1e-30] * 4])
    for norm in NORMS:
        for radius in (zero, zero + 0.1):
            move = shortest(norm, x0, x0 + 0.2, slope, torch.tensor([1.0, 0, 1e-30]), radius, (0.0, 1.0))
            assert move.isfinite().all()
            assert (torch.linalg.vector_norm(move, dim=1) <= radius + 1e-6).all()


@domains
@pytest.mark.parametrize("norm", BB.norms)
def test_distance_to_the_nearest_class_of_a_linear_model(norm: str, domain: tuple[float, float]) -> None:
    """But for one row: the walk goes along the boundary of the class it started from."""
    x0 = starts(8, 12, domain)
    model = Planes(x0, 4, seed=2)
    found = closest(QUICK, model, x0, torch.zeros(8, dtype=torch.long), NORMS[norm](1.0, domain))
    ratio = found.distance / model.distance(x0, norm, domain)
    assert (ratio >= 1 - 1e-6).all()
    assert (ratio > 1.05).sum() <= 1, ratio
    assert ratio.max() <= 1.3


@pytest.mark.parametrize("norm", ["linf", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("l2", "l1"))])
def test_distances_of_networks_of_one_hidden_layer(norm: str) -> None:
    size = 2 if norm == "l2" else 3
    net = networks(size, 0, concave=False)
    x0 = 0.35 + 0.3 * torch.rand(len(net[0]), size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratio = ratios(QUICK, net, x0, NORMS[norm](0.2), 8)
    assert ratio.min() > 0.96
    assert (ratio <= 1.05).double().mean() >= 0.5, ratio


@pytest.mark.parametrize("norm", BB.norms)
def test_the_walk_along_the_boundary_comes_nearer_than_the_walks_before_it(norm: str) -> None:
    x0 = starts(8, 12, (0.0, 1.0))
    model, y = Planes(x0, 2, seed=7), torch.zeros(8, dtype=torch.long)
    far, near = (closest(BB(walk=2, steps=n), model, x0, y, NORMS[norm](1.0)).distance for n in (1, 40))
    truth = model.distance(x0, norm, (0.0, 1.0))
    assert (near <= 1.02 * truth).all()
    assert far.mean() > near.mean()
