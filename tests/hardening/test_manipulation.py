"""The manipulation at inference: where it moves inputs, and that attacks see it as it is."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from measured import measured
from torch import Tensor, nn

import withstand
from withstand.builtin.digits import digits_split
from withstand.core.errors import InputError
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.core.threat_text import parse_threat
from withstand.hardening.manipulation import Manipulated
from withstand.hardening.objectives.atld import ATLD
from withstand.hardening.parts import discriminator as judge
from withstand.hardening.state import State
from withstand.io.models import load_model

THREAT = "linf:0.1"


@cache
def trained() -> tuple[nn.Module, judge.Discriminator]:
    """A small digits classifier trained by ATLD for a moment, and its discriminator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ELU(), nn.Linear(48, 10))
    (x, y), state, objective = digits_split()[0], State(THREAT), ATLD(rate=0.01)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(120):
        rows = slice(128 * (step % 10), 128 * (step % 10 + 1))
        optimiser.zero_grad()
        objective(model, x[rows], y[rows], state).value.backward()
        optimiser.step()
        state.advance()
    return model.eval().requires_grad_(False), judge.discriminator(state.held, "atld")


def images(n: int = 150) -> tuple[Tensor, Tensor]:
    _, (x, y) = digits_split()
    return x[:n], y[:n]


def looks_moved(x: Tensor) -> Tensor:
    model, still = trained()
    with torch.no_grad():
        return F.softplus(-still(model(x)).clean)


def test_a_small_move_makes_outputs_look_cleaner() -> None:
    x, _ = images()
    x = x.clamp(0.1, 0.9)
    moved = Manipulated(*trained(), size=1e-3).moved(x)
    assert (looks_moved(moved) < looks_moved(x)).float().mean() >= 0.9


@pytest.mark.parametrize("cautious", [False, True])
def test_inputs_move_by_the_size_and_stay_in_the_domain(cautious: bool) -> None:
    x, _ = images()
    size = 0.07
    moved = Manipulated(*trained(), size, cautious).moved(x)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert (moved - x).abs().max() <= size + 1e-6
    model, still = trained()
    chance = still(model(x)).clean.sigmoid()
    unsure = (chance > 0.3) & (chance < 0.7)
    reach = (moved - x).abs().flatten(1).amax(1)
    torch.testing.assert_close(reach, torch.where(unsure & cautious, size / 2, size).expand(len(x)))


def test_it_answers_at_the_moved_inputs_also_without_gradients() -> None:
    x, _ = images(20)
    model, still = trained()
    wrapped = Manipulated(model, still, 0.05)
    expected = model(wrapped.moved(x))
    assert torch.equal(wrapped(x), expected)
    with torch.no_grad():
        assert torch.equal(wrapped(x), expected)
    with torch.inference_mode():
        assert torch.equal(wrapped(x.clone()), expected)
    assert torch.equal(Manipulated(model, still, 0.0)(x), model(x))


def test_gradients_pass_through_the_move() -> None:
    x, y = images(20)
    model, still = trained()
    wrapped = Manipulated(model, still, 0.05)
    moved, point = wrapped.moved(x).requires_grad_(), x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(model(moved), y), moved)
    (found,) = torch.autograd.grad(F.cross_entropy(wrapped(point), y), point)
    assert torch.equal(found, expected)


def test_attacks_on_the_bare_model_say_less_than_attacks_on_the_wrapped_one() -> None:
    x, y = images()
    model, still = trained()
    wrapped = Manipulated(model, still, 0.1)
    attack, threat = build("attack", "pgd:steps=20,restarts=1"), parse_threat(THREAT)
    bare, adaptive = run(attack, model, x, y, threat), run(attack, wrapped, x, y, threat)
    right = wrapped(x).argmax(1) == y
    carried_over = right & (wrapped(bare.x).argmax(1) == y)
    robust = right & ~adaptive.refuted
    assert robust.sum() < carried_over.sum()


def test_the_verb_attacks_it_as_it_is_and_it_has_no_graph() -> None:
    wrapped = Manipulated(*trained(), size=0.05)
    x, y = images(20)
    loaded = load_model(wrapped, (1, 8, 8))
    assert loaded.graph is None
    assert loaded.passes
    assert loaded.why_no_graph is not None
    assert "own gradient" in loaded.why_no_graph
    found = withstand.attack(wrapped, (x, y), THREAT, ["pgd:steps=10,restarts=1"])
    assert found.clean_accuracy == float((wrapped(x).argmax(1) == y).double().mean())
    assert measured(found.attacked_accuracy) < found.clean_accuracy
    assert wrapped.dynamic


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InputError, match="size of zero or more"):
        Manipulated(*trained(), size=-0.1)
