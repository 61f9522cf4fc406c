"""Catastrophic overfitting: told from constructed histories, and in a training that has it."""

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training import digits, plain

from withstand.core.harden_records import EpochRecord
from withstand.hardening.guard import Guard
from withstand.hardening.loader import Loader
from withstand.hardening.objective import build_objective
from withstand.hardening.schedules import WarmUp
from withstand.hardening.state import State
from withstand.hardening.trainer import Trainer
from withstand.hardening.validate import Validation


def record(pgd: float | None, fgsm: float | None, epoch: int = 5) -> EpochRecord:
    return EpochRecord(epoch=epoch, step=1, learning_rate=0.1, loss=1.0, pgd=pgd, fgsm=fgsm, clean=0.99)


@pytest.mark.parametrize(
    ("now", "previous", "best", "word"),
    [
        (record(0.1, 0.9), 0.5, 0.5, "fell from 0.500 to 0.100"),
        (record(0.29, 0.3), 0.5, 0.5, "fell from 0.500 to 0.290"),
        (record(0.31, 0.4), 0.5, 0.5, None),  # a fall of less than 0.2
        (record(0.45, 0.66), 0.5, 0.5, "FGSM leaves 0.660 and PGD only 0.450"),
        (record(0.55, 0.95), 0.5, 0.5, None),  # a gap, and yet the best so far
        (record(0.02, 0.9), None, None, None),  # nothing to compare with
        (record(0.02, 0.9), 0.02, 0.02, "FGSM leaves 0.900"),
        (record(None, None), 0.5, 0.5, None),
    ],
)
def test_what_it_finds(now: EpochRecord, previous: float | None, best: float | None, word: str | None) -> None:
    finding = Guard().finding(now, previous, best)
    assert (finding is None) if word is None else (finding is not None and word in finding)


def test_a_training_on_single_steps_is_stopped_and_its_best_weights_are_kept() -> None:
    x, y = digits()
    x = F.interpolate(x, size=24)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 4, 2), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    made = Trainer(
        module,
        build_objective("fgsm:clean=0"),
        State("linf:0.3"),
        torch.optim.Adam(module.parameters(), 3e-3),
        Loader(x[:600], y[:600], 50),
        30,
        ramp=WarmUp(4.0),
        validation=Validation(x[700:800], y[700:800]),
    )
    made.fit()
    last = made.progress.history[-1]
    assert last.epoch < 30
    assert made.progress.ended is not None
    assert f"Catastrophic overfitting in epoch {last.epoch}" in made.progress.ended
    assert made.progress.notes == [
        f"{made.progress.ended} Training stopped. The weights of epoch {made.progress.best_epoch} are the best."
    ]
    assert made.progress.best_pgd is not None
    assert last.pgd is not None
    assert made.progress.best_pgd >= last.pgd


def spiked(objective: str, then: Literal["stop", "back"]) -> Trainer:
    """A training whose learning rate is far too high in the tenth epoch."""
    made = plain(objective, "linf:0.05", epochs=12, guard=Guard(then=then))
    made.callbacks = [lambda record: made.optimiser.param_groups[0].update(lr=3.0 if record.epoch == 9 else 0.1)]
    made.fit()
    return made


def test_a_training_goes_back_to_its_best_weights_and_on() -> None:
    stopped, back = spiked("fast", "stop"), spiked("fast", "back")
    assert [record.epoch for record in stopped.progress.history] == list(range(1, 11))
    assert stopped.progress.ended is not None
    assert back.progress.ended is None
    assert len(back.progress.notes) == 1
    history = [record.pgd or 0.0 for record in back.progress.history]
    best = max(history[:9])
    assert history[9] < best - 0.2
    assert min(history[10:]) > best - 0.2


def test_objectives_without_a_radius_are_not_watched() -> None:
    made = spiked("natural", "stop")
    history = [record.pgd or 0.0 for record in made.progress.history]
    assert history[9] < history[8] - 0.2
    assert made.progress.ended is None
