"""How far a training is, and the weights it keeps."""

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from withstand.core.harden_records import EpochRecord


class Tick(NamedTuple):
    """One step done: the epoch and batch it was in, counted from 1, of how many batches, and its loss."""

    epoch: int
    batch: int
    batches: int
    loss: float


@dataclass
class Progress:
    """Where a training stands. epoch, batch, replay: what comes next, counted from 0.

    steps, loss, logs: steps of the unfinished epoch, and sums over them. seconds, cpu_seconds: spent in it before this
    process. history: the finished epochs. previous: PGD accuracy after the epoch before, at the whole radius.
    best: weights of the best epoch so far, `best_score` the figure it is judged by, `best_pgd` its PGD accuracy and
    `best_epoch` its number; `last`: those after the last finished epoch. notes: what happened, a sentence each. ended:
    why the training ended early.
    """

    epoch: int = 0
    batch: int = 0
    replay: int = 0
    steps: int = 0
    loss: float = 0.0
    logs: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    previous: float | None = None
    best_score: float | None = None
    best_pgd: float | None = None
    best_epoch: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ended: str | None = None

    def count(self, loss: float, logs: dict[str, float]) -> None:
        """Add a step to the epoch's sums."""
        self.steps += 1
        self.loss += loss
        for name, figure in logs.items():
            self.logs[name] = self.logs.get(name, 0.0) + figure

    def move(self, replays: int, batches: int) -> bool:
        """Go to the next step's place; whether that ends the epoch."""
        self.replay = (self.replay + 1) % replays
        self.batch += self.replay == 0
        return self.batch == batches

    def surpassed_by(self, record: EpochRecord, judge: str) -> bool:
        """Whether an epoch is at least as good as the best so far: by the figure `judge`, on ties by PGD accuracy, then
        by clean accuracy; of equals the later one. A figure that was not measured is below all others."""
        if self.best_epoch is None:
            return True
        best = next(one for one in self.history if one.epoch == self.best_epoch)
        figures = (judge, "pgd", "clean")
        now, before = ([-1.0 if (got := getattr(e, f)) is None else got for f in figures] for e in (record, best))
        return now >= before

    def close(self, record: EpochRecord) -> None:
        """End an epoch."""
        self.history.append(record)
        self.epoch, self.batch, self.replay, self.steps, self.loss = self.epoch + 1, 0, 0, 0, 0.0
        self.logs, self.seconds, self.cpu_seconds = {}, 0.0, 0.0

    def held(self) -> dict[str, Any]:
        """As plain values and tensors."""
        return {**self.__dict__, "history": [record.model_dump() for record in self.history]}

    @classmethod
    def of(cls, held: dict[str, Any]) -> "Progress":
        """From what `held` gave."""
        return cls(**{**held, "history": [EpochRecord(**record) for record in held["history"]]})


def frozen(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state_dict that later steps do not change."""
    return {
        name: copy.deepcopy(value.detach()) if isinstance(value, Tensor) else value for name, value in weights.items()
    }
