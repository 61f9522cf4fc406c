"""A thin loop around an objective and PyTorch's own optimisers: epochs, validation, the best weights, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from withstand.core.errors import InputError
from withstand.core.harden_records import EpochRecord
from withstand.hardening import checkpoint
from withstand.hardening.clock import Clock
from withstand.hardening.ema import Average
from withstand.hardening.guard import Guard, advice
from withstand.hardening.interrupts import waiting
from withstand.hardening.loader import Batch, Loader
from withstand.hardening.objective import Objective, base_of, check_threat
from withstand.hardening.progress import Progress, Tick, frozen
from withstand.hardening.results import finished, write_results
from withstand.hardening.schedules import Ramp
from withstand.hardening.state import State
from withstand.hardening.step import Diverged, Precision, Stepper, Whole
from withstand.hardening.trainable import check_batches, check_trainable
from withstand.hardening.validate import Validation, check_validation, shares

CHECKPOINT = "checkpoint.pt"
"""Its name in the folder."""


@dataclass(eq=False)
class Trainer:
    """Trains a module with an objective. `fit()` runs, `progress` tells what came of it, `best_module()` and
    `last_module()` are the results; between them the module itself trains.

    module: from inputs [B, *shape] to logits [B, K]; call `objective.prepare(module)` before making the optimiser.
    state: the threat and the seed. optimiser, scheduler: PyTorch's; `scheduler_every` says when the scheduler steps.
    loader: the training batches. validation: samples, apart from training and test data, whose accuracy, by
    `objective.judged_by` and on ties PGD and clean accuracy, chooses the best epoch (None: the last is the best).
    ramp: the radius over the epochs, such as `withstand.hardening.schedules.WarmUp` (None: whole from the start).
    accumulate, clip, precision: see
    `withstand.hardening.step.Stepper`. average: decay of a running average of the weights (None: none), which is then
    what is validated and kept. guard: against catastrophic overfitting (None: none); it looks at objectives that have a
    radius, where it is whole. recipe: what else a checkpoint must agree with, by name. folder: where `checkpoint.pt`,
    `epochs.jsonl`, `best.safetensors` and `last.safetensors` go (None: nowhere). checkpoint_every: steps between
    checkpoints within an epoch (None: only at its end). callbacks: called with the record of every epoch, in the first
    process. on_step: called after every step.

    In processes of `torch.distributed`, each holds all data and takes its part of every batch; what an objective keeps
    in `state.held` is each process's own. Raises InputError, one sentence, for what cannot be trained.
    """

    module: nn.Module
    objective: Objective
    state: State
    optimiser: torch.optim.Optimizer
    loader: Loader
    epochs: int
    scheduler: LRScheduler | None = None
    scheduler_every: Literal["step", "epoch"] = "step"
    validation: Validation | None = None
    ramp: Ramp | None = None
    accumulate: int = 1
    clip: float | None = None
    precision: Precision = "fp32"
    average: float | None = None
    guard: Guard | None = field(default_factory=Guard)
    recipe: Mapping[str, str] = field(default_factory=dict)
    folder: str | PathLike[str] | None = None
    checkpoint_every: int | None = None
    callbacks: Sequence[Callable[[EpochRecord], None]] = ()
    on_step: Callable[[Tick], None] | None = None

    def __post_init__(self) -> None:
        check_threat(self.objective, self.state)
        if self.validation is not None:
            check_validation(self.validation, self.state.threat)
        check_trainable(self.module, self.optimiser, self.loader.x, self.loader.y)
        if self.loader.unlabelled is not None and not base_of(self.objective).unlabelled:
            raise InputError("The objective learns from labelled rows only; leave out the unlabelled ones.")
        if isinstance(self.scheduler, ReduceLROnPlateau):
            raise InputError("ReduceLROnPlateau needs a figure to watch, which this loop has none of; use another.")
        if self.epochs < 1 or self.accumulate < 1:
            raise InputError("The epochs and the parts of a batch must be at least 1.")
        self.progress = Progress()
        self.mean = None if self.average is None else Average(self.module, self.average)
        self.stepper = Stepper(
            Whole(self.objective, self.module, self.state), self.optimiser, self.accumulate, self.clip, self.precision
        )
        check_batches(self.module, self.loader, self.stepper.processes, self.accumulate)
        self._path = None if self.folder is None else Path(self.folder)
        self._identity = checkpoint.identity(self.module)

    def fit(self, resume: bool = False) -> Progress:
        """Train to the last epoch, from the folder's checkpoint with `resume` (from the start where there is none).

        Raises Diverged when the loss or the weights are no longer numbers, and InputError when the checkpoint is not of
        this training. KeyboardInterrupt passes on once a checkpoint of the last whole step is written.
        """
        if resume and self._path is not None and (self._path / CHECKPOINT).exists():
            self._restore(self._path / CHECKPOINT)
        clock = Clock()
        with waiting(self._path is not None and self.stepper.processes == 1) as interrupted:
            while self.progress.epoch < self.epochs and self.progress.ended is None:
                self.module.train()
                while self._step():
                    if interrupted():
                        self._save(clock)
                        raise KeyboardInterrupt
                    if self.checkpoint_every and self.state.step % self.checkpoint_every == 0:
                        self._save(clock)
                self._end_epoch(clock)
                if interrupted():
                    raise KeyboardInterrupt
        return self.progress

    def best_module(self) -> nn.Module:
        """A copy of the model with the weights of the best epoch, in evaluation mode, without what training added."""
        return finished(self.module, self.objective, self.progress.best)

    def last_module(self) -> nn.Module:
        """A copy of the model with the weights after the last finished epoch, as `best_module`."""
        return finished(self.module, self.objective, self.progress.last)

    def _step(self) -> bool:
        """Take the next step; whether the epoch goes on."""
        at, loader, replays = self.progress, self.loader, self.objective.replays
        begun = at.epoch + (at.batch + at.replay / replays) / len(loader)
        self.state.ramp = 1.0 if self.ramp is None else self.ramp(begun)
        try:
            taken = self.stepper.take(self._batch(at.epoch, at.batch))
        except Diverged as fault:
            raise self._diverged(str(fault)) from None
        if self.scheduler is not None and self.scheduler_every == "step":
            self.scheduler.step()
        if self.mean is not None:
            self.mean.update(self.module, self.state.step)
        at.count(taken.loss, taken.logs)
        over = at.move(replays, len(loader))
        self.state.advance(min(1.0, (self.state.step + 1) / (self.epochs * len(loader) * replays)))
        if self.on_step is not None and self.stepper.rank == 0:
            self.on_step(Tick(at.epoch + 1, at.batch + (at.replay > 0), len(loader), taken.loss))
        return not over

    def _batch(self, epoch: int, index: int) -> Batch:
        stepper = self.stepper
        return self.loader.at(epoch, index, stepper.rank, stepper.processes).to(stepper.device)

    def _end_epoch(self, clock: Clock) -> None:
        """Validate, keep the weights, look for overfitting, and write it all down."""
        at = self.progress
        self._check_weights()
        self.stepper.level(self.module)
        evaluated = self.module if self.mean is None else self.mean.restated(self.loader)
        record = self._record(evaluated, clock)
        at.last = frozen(evaluated.state_dict())
        finding = self._finding(record)
        at.previous = record.pgd if self.state.ramp == 1.0 else None
        judge = base_of(self.objective).judged_by
        if finding is None and at.surpassed_by(record, judge):
            at.best, at.best_pgd, at.best_epoch = at.last, record.pgd, record.epoch
            at.best_score = getattr(record, judge)
        if self.scheduler is not None and self.scheduler_every == "epoch":
            self.scheduler.step()
        at.close(record)
        if finding is not None:
            self._react(finding)
        self._save(clock)
        if self._path is not None and self.stepper.rank == 0:
            write_results(self._path, at, self.best_module(), self.last_module())
        for callback in self.callbacks if self.stepper.rank == 0 else ():
            callback(record)

    def _record(self, module: nn.Module, clock: Clock) -> EpochRecord:
        at, stepper = self.progress, self.stepper
        names = sorted(at.logs)
        loss, *logs = (
            part / stepper.processes / at.steps for part in stepper.total([at.loss, *(at.logs[name] for name in names)])
        )
        rates: dict[str, Any] = {}
        if self.validation is not None:
            rates = shares(module, self.validation, self.objective, self.state.threat, stepper)
        seconds, cpu_seconds = clock.passed()
        return EpochRecord(
            epoch=at.epoch + 1,
            step=self.state.step,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            radius=self.state.threat.radius * self.state.ramp if base_of(self.objective).norms else None,
            loss=loss,
            logs=dict(zip(names, logs)),
            seconds=at.seconds + seconds,
            cpu_seconds=at.cpu_seconds + cpu_seconds,
            **rates,
        )

    def _finding(self, record: EpochRecord) -> str | None:
        if self.guard is None or not base_of(self.objective).norms or self.state.ramp < 1.0:
            return None
        return self.guard.finding(record, self.progress.previous, self.progress.best_pgd)

    def _react(self, finding: str) -> None:
        at = self.progress
        assert self.guard is not None
        kept = f"The weights of epoch {at.best_epoch} are the best."
        if self.guard.then == "stop":
            at.ended = finding
            at.notes.append(f"{finding} Training stopped. {kept}")
            return
        at.notes.append(f"{finding} Training went on from there. {kept}")
        self.module.load_state_dict(at.best)
        if self.mean is not None:
            self.mean.module.load_state_dict(at.best)
        self.optimiser.state.clear()
        at.previous = at.best_pgd

    def _diverged(self, what: str) -> Diverged:
        """The error that says what to lower."""
        at, rate = self.progress, float(self.optimiser.param_groups[0]["lr"])
        place = None if self._path is None else self._path / CHECKPOINT
        attacks = bool(base_of(self.objective).norms)
        batch = min(at.batch, len(self.loader) - 1)
        return Diverged(advice(what, at.epoch, batch, rate, self.clip, self.precision, attacks, place))

    def _check_weights(self) -> None:
        if not all(bool(p.isfinite().all()) for p in self.stepper.parameters):
            raise self._diverged("a weight became NaN or infinite")

    def _save(self, clock: Clock) -> None:
        """Write a checkpoint. Raises Diverged, the one before kept, when a weight is no number."""
        self._check_weights()
        if self._path is None:
            return
        at = self.progress
        seconds, cpu_seconds = clock.passed(keep=True)
        mine = {
            "random": checkpoint.randomness(),
            "held": {name: value.detach().cpu() for name, value in self.state.held.items()},
            "buffers": {name: value.cpu() for name, value in self.module.named_buffers()},
        }
        processes = self.stepper.gather(mine)
        if self.stepper.rank != 0:
            return
        progress = {**at.held(), "seconds": at.seconds + seconds, "cpu_seconds": at.cpu_seconds + cpu_seconds}
        held = {
            "model": self._identity,
            "recipe": self._recipe(),
            "module": self.module.state_dict(),
            "average": {} if self.mean is None else self.mean.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": {} if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "state": {"done": self.state.done, "ramp": self.state.ramp, "step": self.state.step},
            "progress": progress,
            "processes": processes,
        }
        checkpoint.write(self._path / CHECKPOINT, held)

    def _restore(self, path: Path) -> None:
        held = checkpoint.read(path, self._identity, self._recipe(), self.stepper.processes)
        self.module.load_state_dict(held["module"])
        if self.mean is not None:
            self.mean.module.load_state_dict(held["average"])
        self.optimiser.load_state_dict(held["optimiser"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(held["scheduler"])
        self.stepper.scaler.load_state_dict(held["scaler"])
        for name, value in held["state"].items():
            setattr(self.state, name, value)
        self.progress = Progress.of(held["progress"])
        mine = held["processes"][self.stepper.rank]
        self.state.held = {name: value.to(self.stepper.device) for name, value in mine["held"].items()}
        with torch.no_grad():
            for name, value in mine["buffers"].items():
                self.module.get_buffer(name).copy_(value)
        checkpoint.restore_randomness(mine["random"])

    def _recipe(self) -> dict[str, str]:
        """What a checkpoint must agree with."""
        loader, state = self.loader, self.state
        own = {
            "objective": repr(self.objective),
            "threat": state.threat.text(),
            "seed": f"{state.seed} and {loader.seed}",
            "attack_mode": state.attack_mode,
            "samples": f"{len(loader.x)} and {0 if loader.unlabelled is None else len(loader.unlabelled)} unlabelled",
            "batch": f"{loader.batch} in {self.accumulate}, {loader.free} unlabelled",
            "optimiser": type(self.optimiser).__name__,
            "scheduler": f"{type(self.scheduler).__name__} every {self.scheduler_every}",
            "precision": self.precision,
            "clip": str(self.clip),
            "average": str(self.average),
        }
        return {**own, **self.recipe}
