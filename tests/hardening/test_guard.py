"""Catastrophic overfitting: told from constructed histories, and in a training that has it."""

import pytest
import torch
from training import ROWS, digits, network

from withstand.core.records_harden import EpochRecord
from withstand.hardening.guard import Guard
from withstand.hardening.loader import Loader
from withstand.hardening.objective import build_objective
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


def overfitting(guard: Guard | None, epochs: int = 12) -> Trainer:
    """FGSM without clean images at a large radius and a high rate: it learns to withstand one step only."""
    x, y = digits()
    module = network(norm=True)
    optimiser = torch.optim.SGD(module.parameters(), 0.2, momentum=0.9)
    return Trainer(
        module,
        build_objective("fgsm:clean=0"),
        State("linf:0.3"),
        optimiser,
        Loader(x[:ROWS], y[:ROWS], 25),
        epochs,
        validation=Validation(x[ROWS : ROWS + 100], y[ROWS : ROWS + 100]),
        guard=guard,
    )
