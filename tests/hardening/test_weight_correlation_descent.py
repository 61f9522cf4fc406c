"""Weight correlation descent: its gradient, and what it does to networks in training."""

import pytest
import torch
from torch import nn

from withstand.builtin.digits import digits_split
from withstand.builtin.models import architecture
from withstand.core.errors import InputError
from withstand.generalisation.correlation import weight_correlation
from withstand.hardening.additions.weight_correlation import correlated
from withstand.hardening.objective import build_objective
from withstand.hardening.state import State


def trained(additions: list[str], steps: int = 60) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    objective, state = build_objective("natural", additions), State("linf:0.1")
    objective.prepare(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    data = digits_split()[0]
    for step in range(steps):
        rows = torch.arange(128 * step, 128 * (step + 1)) % len(data.x)
        optimiser.zero_grad()
        objective(model, data.x[rows], data.y[rows], state).value.backward()
        optimiser.step()
        state.advance()
    return model


def correlations(model: nn.Module) -> list[float]:
    return [float(weight_correlation(layer.weight.detach())) for layer in correlated(model)]


def accuracy(model: nn.Module) -> float:
    data = digits_split()[1]
    with torch.no_grad():
        return float((model(data.x).argmax(1) == data.y).double().mean())


def test_it_lowers_the_correlation_and_learns_as_well() -> None:
    plain, uncorrelated = trained([]), trained(["weight-correlation"])
    for before, after in zip(correlations(plain), correlations(uncorrelated), strict=True):
        assert after < 0.75 * before
    assert accuracy(plain) > 0.85
    assert accuracy(uncorrelated) > accuracy(plain) - 0.03


def test_a_weight_of_zero_changes_nothing() -> None:
    plain, none = trained([], steps=5), trained(["weight-correlation:weight=0"], steps=5)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), none.parameters()))


def test_the_gradient_is_the_derivative_of_g_with_its_minus() -> None:
    first = nn.Linear(6, 4)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(4, 3)).double()
    objective, state = build_objective("natural", ["weight-correlation:weight=1"]), State("linf:0.1")
    x, y = torch.rand(5, 6).double(), torch.tensor([0, 1, 2, 0, 1])
    plain = build_objective("natural")
    (both,) = torch.autograd.grad(objective(model, x, y, state).value, first.weight)
    (alone,) = torch.autograd.grad(plain(model, x, y, state).value, first.weight)
    rho = weight_correlation(first.weight)
    (slope,) = torch.autograd.grad(rho, first.weight)
    factor = 6 * 3 * (1 / (1 - rho) - 1 / (1 + 3 * rho)) / 24
    assert torch.allclose(both - alone, factor.detach() * slope, atol=1e-12)


def test_the_layers_it_looks_at() -> None:
    net = architecture()
    assert correlated(net) == [net[0], net[2]]
    pointwise = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(256, 8), nn.Linear(8, 2))
    assert correlated(pointwise) == [pointwise[2]]
    with pytest.raises(InputError, match="no weight correlation to lower"):
        build_objective("natural", ["weight-correlation"]).prepare(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
