"""Small trainings on the built-in digits, for the tests of the trainer."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.builtin.digits import digits_split
from withstand.hardening.augment import shifted
from withstand.hardening.loader import Loader
from withstand.hardening.objective import Loss, Model, Objective, build_objective
from withstand.hardening.schedules import WarmUp
from withstand.hardening.state import State
from withstand.hardening.trainer import Trainer
from withstand.hardening.validate import Validation

ROWS = 200


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Images and labels; the first ROWS train."""
    return digits_split()[0]


def network(norm: bool = False, dropout: bool = False) -> nn.Sequential:
    """A small classifier with the same weights at every call."""
    torch.manual_seed(1)
    inner: list[nn.Module] = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        *inner,
        nn.ReLU(),
        nn.Flatten(),
        *([nn.Dropout(0.2)] if dropout else []),
        nn.Linear(64, 10),
    )


@dataclass(frozen=True)
class Replaying(Objective):
    """Shows each batch three times and moves the points a little further each time: a change kept from step to step."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)

    @property
    def replays(self) -> int:
        return 3

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        kept = state.held.get("replaying:change")
        change = x.new_zeros(x.shape) if kept is None or kept.shape != x.shape else kept
        at = state.now.project(x, x + change).requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(at), y), at)
        at = state.now.project(x, at.detach() + 0.3 * state.now.radius * slope.sign())
        state.held["replaying:change"] = at - x
        return at

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value = F.cross_entropy(model(at), y)
        return Loss(value, {"robust": value.detach()})


def adam(folder: Path | None = None, **changed: Any) -> Trainer:
    """Adam, one learning-rate cycle, an average of weights, batches in two parts, images shifted."""
    module = network(norm=True)
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    x, y = digits()
    settings: dict[str, Any] = {
        "scheduler": torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=12),
        "average": 0.9,
        "accumulate": 2,
        "clip": 5.0,
        "ramp": WarmUp(1.5),
    }
    loader = Loader(x[:ROWS], y[:ROWS], 50, augment=[partial(shifted, share=0.5)])
    return trainer(module, build_objective("pgd:steps=2,step=0.6"), optimiser, loader, folder, {**settings, **changed})


def replayed(folder: Path | None = None, **changed: Any) -> Trainer:
    """SGD with momentum, a learning rate that drops by the epoch, dropout, and an objective that replays and keeps."""
    module = network(dropout=True)
    optimiser = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    x, y = digits()
    settings: dict[str, Any] = {
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2], 0.5),
        "scheduler_every": "epoch",
    }
    return trainer(module, Replaying(), optimiser, Loader(x[:ROWS], y[:ROWS], 70), folder, {**settings, **changed})


def plain(objective: str, threat: str = "linf:0.1", folder: Path | None = None, **changed: Any) -> Trainer:
    """SGD on batches of 64."""
    module = network()
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    x, y = digits()
    loader = Loader(x[:ROWS], y[:ROWS], 64)
    return trainer(module, build_objective(objective), optimiser, loader, folder, changed, threat)


def trainer(
    module: nn.Module,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    loader: Loader,
    folder: Path | None,
    settings: dict[str, Any],
    threat: str = "linf:0.1",
) -> Trainer:
    """A trainer of three epochs that validates on a hundred other images."""
    x, y = digits()
    settings = {"epochs": 3, "validation": Validation(x[ROWS : ROWS + 100], y[ROWS : ROWS + 100]), **settings}
    return Trainer(module, objective, State(threat), optimiser, loader, folder=folder, **settings)


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in a nest of mappings and sequences, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [found for key in sorted(value, key=str) for found in tensors(value[key])]
    return [found for part in value for found in tensors(part)] if isinstance(value, list | tuple) else []


def outcome(done: Trainer) -> dict[str, Any]:
    """All that a training leaves, times left out: tensors first."""
    parts = [
        done.module.state_dict(),
        {} if done.mean is None else done.mean.module.state_dict(),
        done.optimiser.state_dict(),
        done.progress.best,
        done.progress.last,
        done.state.held,
        [torch.get_rng_state()],
    ]
    plain = {"seconds": 0.0, "cpu_seconds": 0.0}
    records = [record.model_copy(update=plain).model_dump() for record in done.progress.history]
    others = (done.progress.best_epoch, done.progress.best_pgd, done.state.step, done.state.done)
    schedule = {} if done.scheduler is None else done.scheduler.state_dict()
    return {"tensors": tensors(parts), "records": records, "others": others, "schedule": schedule}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Equal in every bit."""
    assert len(first["tensors"]) == len(second["tensors"])
    assert all(torch.equal(a, b) for a, b in zip(first["tensors"], second["tensors"], strict=True))
    assert first["records"] == second["records"]
    assert first["others"] == second["others"]
    assert first["schedule"] == second["schedule"]
