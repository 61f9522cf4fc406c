"""Every objective and every addition, stopped in the middle of an epoch and resumed, goes on bit for bit: all that they
keep is in the checkpoint."""

import contextlib
import copy
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training import assert_same, digits, outcome

from withstand.core.registry import components
from withstand.hardening.loader import Loader
from withstand.hardening.objective import build_objective
from withstand.hardening.progress import Tick
from withstand.hardening.state import State
from withstand.hardening.trainer import Trainer

ALIKE = {"crown-ibp", "sabr", "mtl-ibp"}
"""Objectives that keep as much as `ibp` does, and whose graphs take seconds."""

ONE = [(name, ()) for name in components("objective") if name not in ALIKE]
ONE += [("pgd", (name,)) for name in components("addition")]


@cache
def begun() -> nn.Sequential:
    """A network that has learned a little, so that it can be a teacher."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ELU(), nn.Linear(12, 10)
    )
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    x, y = digits()
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(module(x[:60]), y[:60]).backward()
        optimiser.step()
    return module


class Stopped(Exception):
    """What a test raises in the middle of a training."""


def training(objective: str, additions: tuple[str, ...], folder: Path | None) -> Trainer:
    module = copy.deepcopy(begun())
    made = build_objective(objective, additions)
    made.prepare(module)
    x, y = digits()
    loader = Loader(x[:60], y[:60], 20, unlabelled=x[200:250] if made.unlabelled else None)
    optimiser = torch.optim.Adam(module.parameters(), 2e-3)
    norms = components("objective")[objective].norms
    threat = "l2:0.3" if norms and "linf" not in norms else "linf:0.05"
    return Trainer(module, made, State(threat), optimiser, loader, 2, folder=folder, checkpoint_every=1)


@pytest.mark.parametrize(("objective", "additions"), ONE, ids=str)
def test_it_goes_on(objective: str, additions: tuple[str, ...], tmp_path: Path) -> None:
    whole = training(objective, additions, None)
    torch.manual_seed(3)
    whole.fit()
    first = training(objective, additions, tmp_path)
    stop = first.objective.replays * len(first.loader) + 2

    def count(tick: Tick) -> None:
        if first.state.step == stop:
            raise Stopped

    first.on_step = count
    torch.manual_seed(3)
    with contextlib.suppress(Stopped):
        first.fit()
    assert first.state.step == stop
    rest = training(objective, additions, tmp_path)
    torch.manual_seed(99)
    rest.fit(resume=True)
    assert_same(outcome(rest), outcome(whole))
