"""Spectral normalisation and the Lipschitz penalty: norms against singular values, gradients, what training gains."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import withstand
from withstand.builtin.digits import digits_split
from withstand.core.errors import InputError
from withstand.hardening.objective import build_objective
from withstand.hardening.parts.spectral import SITES, form, improved, matrices, sigma, start
from withstand.hardening.state import State


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )


def trained(additions: list[str], steps: int = 150) -> tuple[nn.Module, float]:
    """A network trained on digits, and its accuracy on the test split."""
    model, data = network(), digits_split()[0]
    objective, state = build_objective("natural", additions), State("l2:0.1")
    objective.prepare(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        rows = torch.arange(64 * step, 64 * (step + 1)) % len(data.x)
        optimiser.zero_grad()
        objective(model.train(), data.x[rows], data.y[rows], state).value.backward()
        optimiser.step()
        state.advance()
    model.eval()
    if additions:
        objective.finish(model)  # type: ignore[attr-defined]
    test = digits_split()[1]
    with torch.no_grad():
        return model, float((model(test.x).argmax(1) == test.y).double().mean())


def log_norms(model: nn.Module) -> float:
    weights = [part.weight.flatten(1) for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return sum(math.log(float(torch.linalg.matrix_norm(w.detach(), 2))) for w in weights)


def test_sigma_is_the_largest_singular_value_with_gradient_u_v() -> None:
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    parts = matrices(weight, None)
    value = sigma(parts, improved(parts.detach(), start(parts), 300))
    u, s, vt = torch.linalg.svd(weight.detach())
    assert float(value.detach()) == pytest.approx(float(s[0]), rel=1e-10)
    (slope,) = torch.autograd.grad(value, weight)
    assert torch.allclose(slope, torch.outer(u[:, 0], vt[0]), atol=1e-8)


@pytest.mark.parametrize(("stride", "groups", "kernel"), [(1, 1, 3), (2, 1, 4), (2, 2, 3)])
def test_a_convolution_as_a_layer_is_no_smaller_than_with_zero_padding(stride: int, groups: int, kernel: int) -> None:
    torch.manual_seed(2)
    layer = nn.Conv2d(2, 4, kernel, stride, padding=1, groups=groups, bias=False).double()
    size = SITES * stride + kernel - stride - 2
    eye = torch.eye(2 * size**2, dtype=torch.float64).reshape(-1, 2, size, size)
    exact = float(torch.linalg.matrix_norm(layer(eye).flatten(1).detach(), 2))
    parts = matrices(layer.weight.detach(), form(layer, "layer"))
    value = float(sigma(parts, improved(parts, start(parts), 300)))
    assert exact <= value <= 1.2 * exact
    assert value == pytest.approx(float(torch.linalg.matrix_norm(parts, 2).max()), rel=1e-8)
    (slope,) = torch.autograd.grad(
        sigma(matrices(layer.weight, form(layer, "layer")), improved(parts, start(parts), 300)), layer.weight
    )
    moved = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ends = [matrices(layer.weight.detach() + step * moved, form(layer, "layer")) for step in (1e-6, -1e-6)]
    rise = (torch.linalg.matrix_norm(ends[0], 2).max() - torch.linalg.matrix_norm(ends[1], 2).max()) / 2e-6
    assert float((slope * moved).sum()) == pytest.approx(float(rise), rel=1e-4)


def test_it_agrees_with_torch_on_matrices() -> None:
    ours, theirs = nn.Linear(6, 4), nn.Linear(6, 4)
    theirs.load_state_dict(ours.state_dict())
    build_objective("natural", ["spectral-normalisation:steps=50"]).prepare(ours)
    torch.nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=50)
    torch.testing.assert_close(ours.weight, theirs.weight)
    ours.weight.square().sum().backward()
    theirs.weight.square().sum().backward()
    grads = [layer.parametrizations.weight.original.grad for layer in (ours, theirs)]  # type: ignore[union-attr]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("norm", ["matrix", "layer"])
def test_every_layer_gets_the_limit_and_keeps_it_when_finished(norm: str) -> None:
    objective = build_objective("natural", [f"spectral-normalisation:norm={norm},limit=2,steps=200"])
    model = network().double()
    objective.prepare(model)
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    model.train()(x)
    model.eval()
    done = copy.deepcopy(model)
    objective.finish(done)  # type: ignore[attr-defined]
    assert type(done[0]) is nn.Conv2d
    assert not any("parametrizations" in name for name in done.state_dict())
    assert torch.equal(done(x), model(x))
    for layer in (done[0], done[3], done[5]):
        parts = matrices(layer.weight.detach(), form(layer, norm))  # type: ignore[arg-type]
        assert float(torch.linalg.matrix_norm(parts, 2).max()) == pytest.approx(2, rel=1e-6)


def test_vectors_improve_in_training_mode_alone_and_are_in_the_state() -> None:
    model = network()
    build_objective("natural", ["spectral-normalisation"]).prepare(model)
    before = copy.deepcopy(model.state_dict())
    model.eval()(torch.rand(2, 1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model[3].parametrizations.weight.original.mul_(torch.rand(32, 128))  # type: ignore[union-attr]
    model.train()(torch.rand(2, 1, 8, 8))
    assert not torch.equal(model.state_dict()["3.parametrizations.weight.0.v"], before["3.parametrizations.weight.0.v"])


def test_a_network_with_limited_norms_is_certified_by_its_constant() -> None:
    plain, before = trained([])
    model, accuracy = trained(["spectral-normalisation:norm=layer,limit=2"])
    assert before > 0.9
    assert accuracy > before - 0.05
    found = [withstand.verify(one, "digits", "l2:0.1", method="lipschitz", limit=200) for one in (plain, model)]
    uppers = [one.constants.upper.value for one in found if one.constants is not None]
    assert uppers[1] < 10 < 0.6 * uppers[0]
    assert found[1].certified_accuracy > found[0].certified_accuracy + 0.03


@pytest.mark.parametrize("of", ["log:0.1", "product:0.01"])
def test_the_penalty_makes_norms_smaller_at_little_cost(of: str) -> None:
    name, weight = of.split(":")
    plain, before = trained([])
    model, accuracy = trained([f"lipschitz-penalty:of={name},weight={weight},norm=matrix"])
    assert accuracy > before - 0.05
    assert log_norms(model) < log_norms(plain) - 0.5


def test_the_penalty_is_the_product_of_the_norms_and_its_gradient_theirs() -> None:
    model = network().double()
    plain, state = build_objective("natural"), State("linf:0.1")
    x, y = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    expected = plain(model, x, y, state).value + 0.5 * _product(model)
    expected.backward()
    slopes = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    objective = build_objective("natural", ["lipschitz-penalty:of=product,weight=0.5,norm=matrix"])
    for _ in range(300):
        loss = objective(model, x, y, state)
    assert set(state.held) == {f"lipschitz-penalty.{place}" for place in (0, 3, 5)}
    assert float(loss.value.detach()) == pytest.approx(float(expected.detach()), rel=1e-8)
    loss.value.backward()
    for p, slope in zip(model.parameters(), slopes, strict=True):
        assert torch.allclose(p.grad, slope, atol=1e-6)  # type: ignore[arg-type]


def _product(model: nn.Module) -> Tensor:
    weights = [part.weight.flatten(1) for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return torch.stack([torch.linalg.matrix_norm(w, 2) for w in weights]).prod()


def test_a_weight_of_zero_changes_nothing() -> None:
    model, state = network(), State("linf:0.1")
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    loss = build_objective("natural", ["lipschitz-penalty:weight=0"])(model, x, y, state)
    assert torch.equal(loss.value, F.cross_entropy(model(x), y))
    assert state.held == {}


@pytest.mark.parametrize("name", ["lipschitz-penalty", "spectral-normalisation"])
def test_a_model_without_layers_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="neither a fully connected layer nor a convolution"):
        build_objective("natural", [name]).prepare(nn.Sequential(nn.Flatten()))
