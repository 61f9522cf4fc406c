"""Weight correlation: its values where they are known, and its divergence against that of torch's Gaussians."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.generalisation.correlation import (
    correlated_kl,
    correlation_divergence,
    is_correlated,
    layer_divergence,
    weight_correlation,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plainly(weight: torch.Tensor, groups: int = 1) -> float:
    """rho by loops over groups, input channels and pairs."""
    if weight.dim() == 2:
        weight = weight[:, None, :]
    each = len(weight) // groups
    found = []
    for start in range(0, len(weight), each):
        for channel in range(weight.shape[1]):
            for i in range(each):
                for j in range(each):
                    if i != j:
                        a, b = (weight[start + k, channel].flatten() for k in (i, j))
                        found.append(abs(float(a @ b) / float(a.norm() * b.norm())))
    return sum(found) / len(found)


@pytest.mark.parametrize(
    ("shape", "groups"), [((5, 7), 1), ((2, 3), 1), ((4, 3, 2, 2), 1), ((6, 2, 3), 3), ((4, 1, 3, 3), 2)]
)
def test_the_correlation_is_that_of_loops(shape: tuple[int, ...], groups: int) -> None:
    weight = normal(*shape)
    assert float(weight_correlation(weight, groups)) == pytest.approx(plainly(weight, groups), rel=1e-12)


def test_blocks_that_are_taken_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(4, 5, 3, 3)
    whole = float(weight_correlation(weight))
    monkeypatch.setattr("withstand.generalisation.correlation.CELLS", 32)
    assert float(weight_correlation(weight)) == pytest.approx(whole, rel=1e-12)


def test_orthogonal_equal_single_and_empty_neurons() -> None:
    basis = torch.linalg.qr(normal(8, 8)).Q
    assert float(weight_correlation(basis)) < 1e-15
    assert float(weight_correlation(normal(1, 9).expand(5, 9))) == pytest.approx(1)
    assert float(weight_correlation(normal(1, 9))) == 0
    assert float(weight_correlation(normal(6, 1, 3, 3), groups=6)) == 0
    assert float(weight_correlation(torch.zeros(4, 9))) == 0
    assert float(layer_divergence(normal(1, 9))) == 0
    assert float(layer_divergence(normal(6, 1, 3, 3), groups=6)) == 0
    assert math.isinf(float(correlation_divergence(1.0, 5, 9)))


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=5, max_size=5), st.integers(0, 31))
def test_scaling_and_turning_neurons_changes_nothing(scales: list[float], turned: int) -> None:
    weight = normal(5, 6)
    factors = torch.tensor([s * (-1) ** (turned >> i & 1) for i, s in enumerate(scales)], dtype=torch.float64)
    assert float(weight_correlation(factors[:, None] * weight)) == pytest.approx(
        float(weight_correlation(weight)), rel=1e-9
    )


def test_random_neurons_correlate_as_directions_do() -> None:
    assert float(weight_correlation(normal(100, 784))) == pytest.approx(math.sqrt(2 / (math.pi * 784)), rel=0.03)


@pytest.mark.parametrize(("shape", "groups"), [((4, 3), 1), ((4, 2, 2, 2), 1), ((4, 1, 3), 2)])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_the_divergence_is_that_of_a_correlated_gaussian(shape: tuple[int, ...], groups: int, sigma: float) -> None:
    """Every weight of a neuron correlates with the same weight of the other neurons of its group, by rho."""
    weight, rho = normal(*shape), 0.37
    neurons, each, entries = shape[0], shape[0] // groups, math.prod(shape[1:])
    block = torch.full((each, each), rho, dtype=torch.float64) + (1 - rho) * torch.eye(each).double()
    covariance = torch.kron(torch.block_diag(*[block] * groups), torch.eye(entries).double())
    prior = torch.distributions.MultivariateNormal(
        weight.flatten() * 0, sigma**2 * torch.eye(neurons * entries).double()
    )
    posterior = torch.distributions.MultivariateNormal(weight.flatten(), sigma**2 * covariance)
    theirs = torch.distributions.kl_divergence(posterior, prior)
    g = correlation_divergence(rho, neurons, entries, groups)
    assert correlated_kl(float(weight.norm()), sigma, [float(g)]) == pytest.approx(float(theirs), rel=1e-10)


@settings(deadline=None)
@given(st.floats(0.001, 0.99), st.integers(2, 50), st.integers(1, 50))
def test_the_divergence_grows_with_rho_and_its_slope_has_a_minus(rho: float, n: int, m: int) -> None:
    at = torch.tensor(rho, dtype=torch.float64, requires_grad=True)
    correlation_divergence(at, n, m).backward()
    assert at.grad is not None
    slope = m * (n - 1) * (1 / (1 - rho) - 1 / (1 + (n - 1) * rho))
    assert float(at.grad) == pytest.approx(slope, rel=1e-9)
    assert slope > 0
    assert float(correlation_divergence(0.0, n, m)) == 0


@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 3, 3)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    weight = normal(*shape).requires_grad_()
    assert torch.autograd.gradcheck(weight_correlation, (weight,))
    assert torch.autograd.gradcheck(layer_divergence, (weight,))


def test_descent_on_rho_makes_neurons_orthogonal() -> None:
    weight = normal(8, 16).requires_grad_()
    optimiser = torch.optim.Adam([weight], lr=0.05)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / 200)
        optimiser.zero_grad()
        weight_correlation(weight).backward()
        optimiser.step()
    assert float(weight_correlation(weight.detach())) < 1e-3


def test_pointwise_convolutions_have_none() -> None:
    assert not is_correlated(normal(4, 3, 1, 1))
    assert is_correlated(normal(4, 3))
    with pytest.raises(InputError, match="more than one weight"):
        weight_correlation(normal(4, 3, 1, 1))
    with pytest.raises(InputError, match="divide"):
        weight_correlation(normal(5, 1, 3, 3), groups=2)
    with pytest.raises(InputError, match="from 0 to 1"):
        correlation_divergence(1.5, 3, 4)
