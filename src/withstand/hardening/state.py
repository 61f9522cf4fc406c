"""What an objective knows beside model and batch: the threat, how far the training is, and what it keeps."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from withstand.core.rng import RowRandom, label_of
from withstand.core.threat import Threat
from withstand.core.threat_text import parse_threat

AttackMode = Literal["eval", "train"]


@dataclass
class State:
    """The state of a training, one object for all its batches.

    threat: what the model is to withstand, as text or as an object. seed: of every random choice of an objective.
    done: the share of the training that is done, 0 to 1; schedules of objectives read it. ramp: the share of the radius
    in force now, for warm-ups. step: batches so far. ids: numbers of the batch's rows in the training data, int64 [B]
    (None: their places in the batch); with seed and step they decide the random numbers of a row, so that these do not
    depend on how a batch is spread over processes. attack_mode: whether batch normalisation uses its running statistics
    while attacks look for points (the default of most papers' code) or those of the batch. held: tensors that an
    objective keeps from batch to batch, under names that start with its own; checkpoints store them.
    """

    threat: Threat
    seed: int = 0
    done: float = 0.0
    ramp: float = 1.0
    step: int = 0
    ids: Tensor | None = None
    attack_mode: AttackMode = "eval"
    held: dict[str, Tensor] = field(default_factory=dict)

    def __init__(self, threat: Threat | str, seed: int = 0, attack_mode: AttackMode = "eval") -> None:
        self.threat = parse_threat(threat) if isinstance(threat, str) else threat
        self.seed, self.attack_mode = seed, attack_mode
        self.done, self.ramp, self.step, self.ids, self.held = 0.0, 1.0, 0, None, {}

    @property
    def now(self) -> Threat:
        """The threat at the radius in force."""
        return self.threat if self.ramp == 1.0 else self.threat.at(self.threat.radius * self.ramp)

    def rng(self, x: Tensor, purpose: str) -> RowRandom:
        """Streams of random numbers for the rows of x [B, *shape], of their own for every purpose and step."""
        ids = torch.arange(len(x)) if self.ids is None else self.ids
        label = label_of(f"{self.seed}/{self.step}/{purpose}")
        return RowRandom(ids.to(x.device)).fork(label)

    def advance(self, done: float | None = None) -> None:
        """Count a batch; call it after each step of a loop of your own. done: the share of the training that is over
        now."""
        self.step += 1
        self.done = self.done if done is None else done
