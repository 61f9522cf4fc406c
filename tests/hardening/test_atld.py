"""ATLD: its discriminator, its divergences, and its limits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.hardening.objectives.atld import ATLD
from withstand.hardening.parts import discriminator as judge
from withstand.hardening.parts.smoothing import smoothed
from withstand.hardening.state import State


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(rows, 6, generator=rng), torch.randint(0, 3, (rows,), generator=rng)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def begun(seed: int = 0) -> State:
    state = State("linf:0.1", seed=seed)
    judge.begin(state.held, "atld", torch.zeros(1, 3), seed)
    return state


def flat(state: State) -> Tensor:
    return torch.cat([value.flatten() for value in state.held.values()])


def test_a_constant_discriminator_leaves_the_random_start() -> None:
    model, (x, y), state = network(), batch(), begun()
    for key, value in state.held.items():
        if "weights.clean" in key:
            state.held[key] = torch.zeros_like(value)
    at = ATLD().find(model, x, y, state)
    assert torch.equal(at, state.threat.sample(x, state.rng(x, "atld")))


def test_a_step_makes_outputs_look_moved() -> None:
    model, (x, y), state = network(), batch(), begun()
    still = judge.discriminator(state.held, "atld")
    at = ATLD().find(model, x, y, state)
    start = state.threat.sample(x, state.rng(x, "atld"))
    with torch.no_grad():
        assert (still(model(at)).clean < still(model(start)).clean).float().mean() >= 0.75
        assert still(model(at)).clean.mean() < still(model(start)).clean.mean()


def test_outputs_that_are_alike_cannot_be_told_apart() -> None:
    state, latents = begun(), torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    labels = torch.full((50, 3), 1 / 3)
    for _ in range(300):
        judge.train(state.held, "atld", latents, latents, labels, 0.0, 0.01)
    still = judge.discriminator(state.held, "atld")
    gap = judge.gap(still(latents), still(latents))
    assert (gap >= 2 * math.log(2) - 1e-6).all()
    assert float(gap.mean()) == pytest.approx(2 * math.log(2), abs=1e-3)


def test_outputs_that_are_apart_are_told_apart_and_classes_are_learnt() -> None:
    state, rng = begun(), torch.Generator().manual_seed(2)
    clean, moved = torch.randn(60, 3, generator=rng), 4 + torch.randn(60, 3, generator=rng)
    y = clean.argmax(1)
    for _ in range(200):
        judge.train(state.held, "atld", clean, moved, F.one_hot(y, 3).float(), 1.0, 0.02)
    still = judge.discriminator(state.held, "atld")
    assert float(judge.gap(still(clean), still(moved)).mean()) < 0.2
    assert (still(clean).classes.argmax(1) == y).float().mean() > 0.9


def test_its_training_is_that_of_torch_with_momentum_and_decay() -> None:
    state, rng = begun(), torch.Generator().manual_seed(2)
    clean, moved = torch.randn(9, 3, generator=rng), torch.randn(9, 3, generator=rng)
    labels = torch.full((9, 3), 1 / 3)
    module = judge.discriminator(state.held, "atld").requires_grad_(True)
    optimiser = torch.optim.SGD(module.parameters(), 0.05, momentum=judge.MOMENTUM, weight_decay=judge.DECAY)
    for _ in range(4):
        optimiser.zero_grad()
        value = judge.gap(module(clean), module(moved)).mean()
        value = value + 0.7 * sum(F.cross_entropy(module(part).classes, labels) for part in (clean, moved))
        value.backward()
        optimiser.step()
        judge.train(state.held, "atld", clean, moved, labels, 0.7, 0.05)
    for key, value in module.state_dict().items():
        torch.testing.assert_close(state.held[f"atld.weights.{key}"], value)


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = flat(begun())
    torch.manual_seed(1)
    assert torch.equal(first, flat(begun()))
    assert not torch.equal(first, flat(begun(seed=1)))


@pytest.mark.parametrize("divergence", ["mse", "js"])
def test_at_equal_points_the_divergence_is_least(divergence) -> None:
    model, (x, y), state = network(), batch(), begun()
    for key, value in state.held.items():
        if "weights.clean" in key:
            state.held[key] = torch.zeros_like(value)  # what is best where both are alike: one half everywhere
    found = ATLD(divergence=divergence).loss(model, x, x.clone(), y, state)
    assert float(found.logs[divergence]) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(found.value, smoothed(model(x), y, 0.5))


def test_mse_is_scaled_by_the_largest_gradients() -> None:
    model, (x, y), state = network(), batch(), begun()
    at = (x + 0.05).requires_grad_()
    robust, apart = smoothed(model(at), y, 0.5), F.mse_loss(model(at), model(x))
    slopes = [torch.autograd.grad(part, at, retain_graph=True)[0].abs().max() for part in (robust, apart)]
    found = ATLD().loss(model, x, at.detach(), y, state).value
    torch.testing.assert_close(found, robust + 0.5 * slopes[0] / slopes[1] * apart)


def test_js_is_what_the_discriminator_cannot_tell() -> None:
    model, (x, y), state = network(), batch(), begun()
    still, at = judge.discriminator(state.held, "atld"), x + 0.05
    clean, moved = still(model(x)).clean.sigmoid(), still(model(at)).clean.sigmoid()
    told = clean.log().mean() + (1 - moved).log().mean()
    found = ATLD(divergence="js", weight=1.0).loss(model, x, at, y, state).value
    torch.testing.assert_close(found, smoothed(model(at), y, 0.5) + 2 * math.log(2) + told)


def test_at_a_radius_of_zero_it_is_training_with_softened_labels_and_keeps_nothing() -> None:
    model, (x, y), state = network(), batch(), State("linf:0")
    assert torch.equal(ATLD()(model, x, y, state).value, smoothed(model(x), y, 0.5))
    assert state.held == {}


def test_without_a_discriminator_one_is_asked_for() -> None:
    with pytest.raises(InputError, match="holds no discriminator"):
        judge.discriminator({}, "atld")
