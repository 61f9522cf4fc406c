"""Every objective, and every addition, trains the built-in architecture on the digits to a stated band.

Ten passes over the data; the seconds of all of them together are those of a few attacks. The bands lie below what was
measured, by a margin for other processors: plain training ends at 0.97 clean and 0.22 under attack, PGD training at
0.96 and 0.60.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from withstand.builtin.digits import digits_split
from withstand.builtin.models import architecture
from withstand.core.registry import build, components
from withstand.core.runner import run
from withstand.hardening.objective import Combined, Objective, build_objective
from withstand.hardening.parts.certified import Certified
from withstand.hardening.state import State
from withstand.hardening.vote import vote

LINF, L2 = "linf:0.15", "l2:1"
QUICK = {
    "pgd": "pgd:steps=4,step=0.4",
    "trades": "trades:steps=4,step=0.4",
    "mart": "mart:steps=4,step=0.4",
    "self-training": "self-training:steps=4,step=0.4",
    "free": "free:replays=3",
    "shift-consistency": "shift-consistency:weight=0.3",
    "wrm": "wrm:steps=5",
    "feature-scatter": "feature-scatter:iterations=10",
}
"""Name to parameters that save time, or show more in a short training; others train with their defaults."""

BANDS = {
    "natural": (0.93, 0.08),
    "fgsm": (0.9, 0.47),
    "fast": (0.9, 0.51),
    "free": (0.88, 0.4),
    "pgd": (0.9, 0.5),
    "trades": (0.9, 0.49),
    "mart": (0.88, 0.52),
    "self-training": (0.9, 0.49),
    "vat": (0.9, 0.33),
    "wrm": (0.84, 0.38),
    "feature-scatter": (0.9, 0.37),
    "atld": (0.87, 0.29),
    "gaussian": (0.9, 0.25),
    "stability": (0.91, 0.35),
    "smooth-adv": (0.83, 0.39),
    "awp": (0.89, 0.5),
    "shift-consistency": (0.9, 0.49),
    "weight-l1": (0.88, 0.44),
    "weight-correlation": (0.89, 0.49),
}
"""Name to the least accuracy on the held-out digits, clean and under PGD; of other additions 0.8 and 0.3."""

VOTED = {"gaussian": 0.61, "stability": 0.67, "smooth-adv": 0.63}
"""Name to the least share of them on which the vote under noise seems to withstand l2:0.4; natural training: 0.56."""

LONG = (
    *(
        "wrm",
        "atld",
        "smooth-adv",
        "stability",
        "gaussian",
        "feature-scatter",
        "mart",
        "self-training",
        "vat",
        "trades",
    ),
    *("lipschitz-penalty", "shift-consistency", "spectral-normalisation", "awp", "weight-l1"),
)
"""Run with the slow tests."""


def often(names: list[str]) -> list[object]:
    """The names, the long ones marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in names]


ON_BOUNDS = [name for name, cls in components("objective").items() if issubclass(cls, Certified)]
"""Their trainings take longer; `test_certified_digits.py` has them."""


def trained(objective: Objective, threat: str, x: Tensor, y: Tensor, steps: int, model: nn.Module) -> nn.Module:
    """A bare loop with a growing radius: Adam, one cycle, batches of 128 in random order."""
    objective.prepare(model)
    state, order = State(threat), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    rows = torch.cat([torch.randperm(len(x), generator=order) for _ in range(1 + 128 * steps // len(x))])
    for step in range(steps):
        state.ids = rows[128 * (step // objective.replays) :][:128]
        state.ramp = min(1.0, 3 * (step + 1) / steps)
        optimiser.zero_grad()
        objective(model, x[state.ids], y[state.ids], state).value.backward()
        optimiser.step()
        schedule.step()
        state.advance(step / steps)
    return model.eval().requires_grad_(False)


def fresh() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architecture()


def accuracies(model: nn.Module, threat: str = LINF) -> tuple[float, float]:
    """On held-out digits: clean, and under PGD."""
    _, (x, y) = digits_split()
    x, y = x[:300], y[:300]
    found = run(build("attack", "pgd:steps=20,restarts=1"), model, x, y, State(threat).threat)
    right = model(x).argmax(1) == y
    return float(right.double().mean()), float((right & ~found.refuted).double().mean())


def voted(model: nn.Module) -> float:
    """The share of held-out digits on which the vote seems to withstand l2:0.4."""
    _, (x, y) = digits_split()
    return float(vote(model, x[:300], y[:300], State("l2:0.4").threat, 0.25, range(300)).double().mean())


def hardened(name: str, additions: tuple[str, ...] = ()) -> nn.Module:
    objective = build_objective(QUICK.get(name, name), additions)
    (x, y), _ = digits_split()
    threat = LINF if not objective.norms or "linf" in objective.norms else L2
    model = trained(objective, threat, x, y, 100, fresh())
    if isinstance(objective, Combined):
        objective.finish(model)
    return model


@pytest.mark.parametrize("name", often([name for name in components("objective") if name not in ON_BOUNDS]))
def test_an_objective_trains_to_its_band(name: str) -> None:
    model = hardened(name)
    clean, attacked = accuracies(model)
    assert clean >= BANDS[name][0]
    assert attacked >= BANDS[name][1]
    assert name not in VOTED or voted(model) >= VOTED[name]


@pytest.mark.parametrize("name", often(list(components("addition"))))
def test_pgd_training_with_an_addition_trains_to_its_band(name: str) -> None:
    clean, attacked = accuracies(hardened("pgd", (QUICK.get(name, name),)))
    least = BANDS.get(name, (0.8, 0.3))
    assert clean >= least[0]
    assert attacked >= least[1]


@pytest.mark.slow
def test_rows_without_labels_help() -> None:
    """With 100 labels, smooth answers on the other rows make more of the held-out ones right; with 300, a student that
    learns from its former self's labels withstands more."""
    (x, y), _ = digits_split()
    few, some = (torch.where(torch.arange(len(y)) < labelled, y, -1) for labelled in (100, 300))
    plain, _ = accuracies(trained(build("objective", "natural"), LINF, x[:100], y[:100], 100, fresh()))
    smooth, _ = accuracies(trained(build("objective", "vat:entropy=1"), "l2:0.5", x, few, 160, fresh()))
    assert smooth >= plain + 0.02  # measured: 0.91 and 0.85
    teacher = trained(build("objective", "natural"), LINF, x[:300], y[:300], 60, fresh())
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    clean, attacked = accuracies(trained(build("objective", QUICK["self-training"]), LINF, x, some, 100, student))
    assert clean >= 0.82  # measured: 0.89, and 0.45 under attack against the teacher's 0.17
    assert attacked >= accuracies(teacher)[1] + 0.15
