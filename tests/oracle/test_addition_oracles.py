"""Additions to objectives against exact norms, copies of the model, and values worked by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.core.registry import build
from withstand.hardening.additions.shift_consistency import dispersion, features
from withstand.hardening.objective import build_objective
from withstand.hardening.state import State


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 4)
        ).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(10, 1, 6, 6, generator=generator).double(), torch.randint(4, (10,), generator=generator)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("base", ["natural", "pgd", "trades"])
def test_awp_moves_each_layer_by_its_share_along_the_gradient(base: str) -> None:
    model, (x, y) = network(), batch()
    objective, state = build("objective", base), State("linf:0.1")
    at = objective.find(model, x, y, state)
    moves = build("addition", "awp:gamma=0.02").moves(objective.loss, model, x, at, y, state)
    assert set(moves) == {"0.weight", "4.weight", "6.weight"}
    objective.loss(copy.deepcopy(model), x, at, y, state)
    twin = copy.deepcopy(model)
    objective.loss(twin, x, at, y, state).value.backward()
    for name, weight in twin.named_parameters():
        if name in moves:
            assert float(moves[name].norm() / weight.detach().norm()) == pytest.approx(0.02, rel=1e-12)
            assert float(F.cosine_similarity(moves[name].flatten(), weight.grad.flatten(), dim=0)) > 1 - 1e-12  # type: ignore[union-attr]


def test_awp_takes_loss_and_gradient_at_the_moved_weights_and_moves_none() -> None:
    model, (x, y) = network(), batch()
    before, moved = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    objective, state = build("objective", "pgd"), State("linf:0.1")
    at = objective.find(model, x, y, state)
    moves = build("addition", "awp").moves(objective.loss, model, x, at, y, state)
    with torch.no_grad():
        for name, weight in moved.named_parameters():
            weight += moves.get(name, 0.0)
    expected = objective.loss(moved, x, at, y, state).value
    expected.backward()
    found = build_objective("pgd", ["awp"])(model, x, y, state).value
    found.backward()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(model), gradients(moved), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, moved.get_buffer(name))
    assert float(found.detach()) > float(objective.loss(model, x, at, y, state).value.detach())


@pytest.mark.parametrize("addition", ["awp:gamma=0", "awp:warmup=0.5", "shift-consistency:weight=0"])
def test_an_addition_that_is_off_changes_no_bit(addition: str) -> None:
    states = []
    for additions in ([], [addition]):
        model, (x, y), state = network(), batch(), State("linf:0.1")
        objective = build_objective("trades", additions)
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(4):
            optimiser.zero_grad()
            objective(model, x, y, state).value.backward()
            optimiser.step()
            state.advance(0.1 * step)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_awp_with_gradients_of_zero_moves_nothing_and_stays_finite() -> None:
    model, (x, y) = network(), batch()
    for p in model[6].parameters():
        nn.init.zeros_(p)
    loss = build_objective("pgd", ["awp"])(model, x, y, State("linf:0.1"))
    loss.value.backward()
    assert all(grad.isfinite().all() for grad in gradients(model))
    torch.testing.assert_close(loss.value, torch.tensor(4.0).log().double())


def test_awp_of_one_linear_layer_by_hand() -> None:
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    x, y = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0])
    moves = build("addition", "awp:gamma=0.1").moves(
        build("objective", "natural").loss, model, x, x, y, State("linf:1")
    )
    # d loss / d weight is (softmax - one-hot) x', along (-1, 1) in the first column; the weight is 5 long
    torch.testing.assert_close(moves["weight"], torch.tensor([[-0.5, 0.0], [0.5, 0.0]]).double() / 2**0.5)


def test_dispersion_of_four_shifts_by_hand() -> None:
    shifts, y = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, 5.0]]), torch.tensor([0, 0, 7, 7])
    assert float(dispersion(shifts, y)) == (1 + 1 + 2 + 2) / 4
    lone = torch.cat([shifts, torch.tensor([[0.1, 9.3]])]), torch.cat([y, torch.tensor([3])])
    assert float(dispersion(*lone)) == pytest.approx(6 / 5)
    without = torch.cat([shifts, torch.tensor([[0.1, 9.3]])]), torch.cat([y, torch.tensor([-1])])
    assert float(dispersion(*without)) == 6 / 4


def test_dispersion_does_not_see_what_a_whole_class_shares() -> None:
    shifts, y = torch.randn(30, 5).double(), torch.arange(30) % 3
    torch.testing.assert_close(dispersion(shifts + 4 * torch.randn(3, 5).double()[y], y), dispersion(shifts, y))
    alone = torch.randn(4, 5, requires_grad=True)
    dispersion(alone, torch.arange(4)).backward()
    alike = torch.ones(4, 5, requires_grad=True)
    value = dispersion(alike, torch.zeros(4).long())
    value.backward()
    assert float(value.detach()) == 0.0
    for leaf in (alone, alike):
        assert leaf.grad is not None
        assert not leaf.grad.any()
    assert float(dispersion(alone.detach(), torch.full((4,), -1))) == 0.0


def test_shift_consistency_weighs_features_before_the_last_layer() -> None:
    model, (x, y) = network().eval(), batch()
    objective, state = build("objective", "pgd"), State("linf:0.1")
    at = objective.find(model, x, y, state)
    shifts = model[:6](at) - model[:6](x)
    torch.testing.assert_close(features(model, at) - features(model, x), shifts)
    plain = objective.loss(model, x, at, y, state).value
    found = build_objective("pgd", ["shift-consistency:weight=3"])(model, x, y, state)
    torch.testing.assert_close(found.value, plain + 3 * dispersion(shifts, y))
    assert not model[6]._forward_pre_hooks


def test_shift_consistency_at_a_radius_of_zero_adds_nothing() -> None:
    model, (x, y) = network().eval(), batch()
    found = build_objective("pgd", ["shift-consistency"])(model, x, y, State("linf:0")).value
    assert torch.equal(found, build("objective", "natural")(model, x, y, State("linf:0")).value)


def test_shift_consistency_needs_a_linear_layer() -> None:
    model, (x, y) = nn.Sequential(nn.Conv2d(1, 4, 6), nn.Flatten()).double(), batch()
    with pytest.raises(InputError, match=r"^shift-consistency needs a model with a linear layer"):
        build_objective("pgd", ["shift-consistency"])(model, x, y, State("linf:0.1"))
