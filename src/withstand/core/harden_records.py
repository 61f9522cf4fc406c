"""What the run folder of a training run holds, versioned like the records of audits. No torch here.

The folder: `run.json` (a `HardenRecord`), `epochs.jsonl` (an `EpochRecord` a line, replaced whole), `before/` and
`after/` (run folders of audits on the same held-out samples), the weights named by `best` and `last`, and `card.md`.
"""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from withstand.core.records import VERSION, Check, Origin, Record


class EpochRecord(Record):
    """One line of epochs.jsonl: one epoch done.

    epoch: 1 for the first. step: optimiser steps done since the beginning. learning_rate, radius: at the end of the
    epoch; radius is what the objective trained at (None: it has none). loss: mean over the epoch's batches. logs: what
    the objective tells besides, by name. clean, pgd, fgsm: accuracies on the validation samples; interval: the share of
    them that interval bounds prove; smoothed: the share on which the vote under noise seems to withstand the threat, an
    estimate (None: not measured in this epoch). seconds, cpu_seconds: of this epoch, validation included.
    """

    epoch: int
    step: int
    learning_rate: float
    radius: float | None = None
    loss: float
    logs: dict[str, float] = Field(default_factory=dict)
    clean: float | None = None
    pgd: float | None = None
    fgsm: float | None = None
    interval: float | None = None
    smoothed: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Standing(Record):
    """What one set of weights withstands on n held-out samples.

    Accuracies are shares of all n. pgd: what the attack `pgd_attack` alone left; attacked: what all attacks of the
    audit left, per sample; certified: what is proved (None: nothing was tried). masking: the findings on whether
    gradients are masked, of `withstand.masking`.
    """

    n: int
    clean_accuracy: float
    pgd_accuracy: float | None = None
    pgd_attack: str | None = None
    attacked_accuracy: float | None = None
    certified_accuracy: float | None = None
    masking: list[Check] = Field(default_factory=list)


class Split(Record):
    """How the data was divided: numbers of samples, and the sentence that says how they were chosen. held: the test
    samples as a DATA string (None: none names them)."""

    train: int
    validation: int
    test: int
    unlabelled: int = 0
    sentence: str = ""
    held: str | None = None


class HardenRecord(Record):
    """run.json of a training run.

    command: the command line that does the same again. recipe: its parameters as text, by name. architecture: a line a
    layer. limit: the most held-out samples that are audited. epochs: how many were asked for; epochs_done: how many
    are. best_epoch: the one whose weights `best` holds, chosen by `chosen_by`. best, last: weight files relative to the
    folder. notes: what happened on the way, a sentence each. before, after: the weights before training and the best
    ones after it; after_last: the last ones. seconds, cpu_seconds: of training, summed over resumed parts.
    """

    kind: Literal["harden"] = "harden"
    version: int = VERSION
    model: str
    data: str
    threat: str
    objective: str
    recipe: dict[str, str] = Field(default_factory=dict)
    command: str | None = None
    seed: int = 0
    limit: int | None = None
    split: Split | None = None
    origin: Origin | None = None
    architecture: list[str] = Field(default_factory=list)
    parameters: int | None = None
    state: Literal["running", "partial", "complete", "stopped"] = "running"
    epochs: int
    epochs_done: int = 0
    best_epoch: int | None = None
    chosen_by: str = "PGD accuracy on the validation samples"
    best: str | None = None
    last: str | None = None
    notes: list[str] = Field(default_factory=list)
    began: datetime = Field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    before: Standing | None = None
    after: Standing | None = None
    after_last: Standing | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float | None = None
