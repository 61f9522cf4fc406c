"""`withstand.harden`: train a model against a threat, judge it before and after on samples that it never saw."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from withstand.auditing.harden_folder import HardenFolder
from withstand.auditing.harden_run import Samples, Task, Training
from withstand.auditing.harden_talk import Silent, Talk
from withstand.auditing.json_values import json_values
from withstand.auditing.ledger import name_of_source
from withstand.auditing.plan import threat_text
from withstand.auditing.question import Question, pose, with_classes
from withstand.auditing.runfolder import default_folder
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.harden_records import Standing
from withstand.core.records import Check
from withstand.core.threat import Threat
from withstand.hardening.division import Division, divide
from withstand.hardening.recipe import Recipe
from withstand.hardening.recipes import kind_of, recipe_for
from withstand.hardening.step import Precision
from withstand.io.data import DataLike, arrange, load_inputs
from withstand.io.domains import into_domain
from withstand.io.models import ModelLike


@dataclass(frozen=True)
class Hardened:
    """What a training came to. Accuracies are of the best weights on the n held-out samples audited: certified <= true
    <= attacked (None: there were no audits). best, last: their files; best_epoch: the epoch that the best ones are of.
    before, after, after_last: all figures of the weights it began with, of the best and of the last ones. masking:
    whether the best ones only hide their gradients. notes: what happened on the way. module: the best model, in
    evaluation mode.
    """

    n: int
    clean_accuracy: float
    attacked_accuracy: float | None
    certified_accuracy: float | None
    epochs: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    best: Path
    best_epoch: int
    last: Path
    masking: list[Check]
    before: Standing
    after: Standing
    after_last: Standing
    notes: list[str]
    recipe: dict[str, str]
    run_dir: Path
    module: nn.Module

    def to_json(self) -> dict[str, Any]:
        """All fields but the module as JSON values."""
        return json_values(self, without=("module",))


@checked
def harden(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    *,
    recipe: str | Recipe = "pgd",
    additions: Sequence[str] = (),
    test: "DataLike | None" = None,
    unlabelled: "DataLike | None" = None,
    epochs: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    scratch: bool = False,
    precision: Precision = "fp32",
    limit: int = 500,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "cpu",
    loggers: Sequence[str] = (),
    audits: bool = True,
    talk: Talk | None = None,
) -> Hardened:
    """Train a model, from the weights it has or from new ones (`scratch`), to withstand a threat.

    model, threat: as everywhere. data: labelled samples to train on; test: samples to judge by, held out (see
    `withstand.hardening.division.divide` for what happens without). unlabelled: more inputs, for objectives that learn
    from such (see `withstand.io.data.load_inputs`). recipe: an objective as text (`trades:beta=3`), whose other
    settings are looked up by the kind of data, or a Recipe. additions: such as `awp:gamma=0.005`. epochs, batch, rate:
    in place of the recipe's. precision: of the loss pass: fp32, bf16 or fp16. limit: held-out samples that are audited
    before and after. out: the run folder; unless given, below `runs`. resume: go on with the training that the folder
    holds. loggers: `tensorboard`, `mlflow` (extras of these names), told every epoch's figures. audits: audit before
    and after; else only PGD is tried on both. A training beside `out` with the same model, data, threat, seed and limit
    lends its audit before. talk: told what happens.

    Ctrl-C leaves a folder that `resume` goes on with. A module in memory is not changed: a copy is trained.

    Raises InputError, one sentence, when something cannot be used, the folder holds another training, or the loss is no
    longer a number (the last good checkpoint then stays).
    """
    if precision not in ("fp32", "bf16", "fp16"):
        raise InputError(f"The precision {precision!r} is not known; choose fp32, bf16 or fp16.")
    parts = divide(data, test)
    names = name_of_source(model), name_of_source(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with pose(model, parts.test, threat, device=device) as question:
            shape, classes = question.model.input_shape, question.model.output_shape[0]
            samples = _samples(parts, unlabelled, question)
            if isinstance(recipe, Recipe):
                chosen = replace(recipe, additions=(*recipe.additions, *additions))
            else:
                chosen = recipe_for(recipe, kind_of(shape, classes), additions)
            given = {"epochs": epochs, "batch": batch, "rate": rate}
            chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
            command = _command(names, threat, test, unlabelled, chosen, precision, scratch, seed, limit, audits)
            task = Task(
                names, question, samples, chosen, precision, scratch, seed, limit, command, tuple(loggers), audits
            )
            return _train(task, out, talk or Silent(), resume)


def _samples(parts: Division, unlabelled: "DataLike | None", question: Question) -> Samples:
    """What a training sees, in the form that the model takes. Raises InputError for labels that are no classes, inputs
    outside the threat's domain and models of float64, in which objectives and their random numbers are not made."""
    if question.model.dtype == torch.float64:
        raise InputError(f"{question.model.name} computes in float64; train module.float().")
    shape, classes = question.model.input_shape, question.model.output_shape[0]
    train, validation = (arrange(part, shape) for part in (parts.train, parts.validation))
    extra = None if unlabelled is None else arrange(load_inputs(unlabelled), shape)
    model, threat = question.model, question.threat
    train, validation = (into_domain(with_classes(part, part, model, classes), threat) for part in (train, validation))
    extra = None if extra is None else into_domain(extra, threat)
    return Samples(train, validation, parts.sentence, extra, parts.held)


def _command(
    names: tuple[str, str],
    threat: str | Threat,
    test: object,
    unlabelled: object,
    recipe: Recipe,
    precision: str,
    scratch: bool,
    seed: int,
    limit: int,
    audits: bool,
) -> str:
    """The command line of a training, whose recipe has numbers of its own only where options say so."""
    words = ["withstand", "harden", names[0], "--data", names[1], "--threat", threat_text(threat)]
    words += ["--recipe", recipe.objective]
    for one in recipe.additions:
        words += ["--with", one]
    for option, data in (("--test", test), ("--unlabelled", unlabelled)):
        words += [] if data is None else [option, name_of_source(data)]
    words += ["--epochs", str(recipe.epochs), "--batch", str(recipe.batch), "--rate", f"{recipe.rate:g}"]
    words += ["--scratch"] * scratch + ["--precision", precision, "--limit", str(limit), "--seed", str(seed)]
    return shlex.join(words + ["--no-audit"] * (not audits))


def _train(task: Task, out: str | PathLike[str] | None, talk: Talk, resume: bool) -> Hardened:
    slug = f"{threat_text(task.question.threat)}-{task.recipe.objective}"
    folder = HardenFolder(out or default_folder(f"harden-{task.names[0]}", task.names[1], slug, task.seed))
    folder.open()
    try:
        return _result(Training(task, folder, talk, resume))
    finally:
        folder.close()


def _result(training: Training) -> Hardened:
    training.run()
    record = training.record
    assert record.before is not None
    assert record.after is not None
    assert record.after_last is not None
    assert record.best_epoch is not None
    return Hardened(
        n=record.after.n,
        clean_accuracy=record.after.clean_accuracy,
        attacked_accuracy=record.after.attacked_accuracy,
        certified_accuracy=record.after.certified_accuracy,
        epochs=record.epochs_done,
        seconds=record.seconds,
        cpu_seconds=record.cpu_seconds,
        peak_memory_mb=record.peak_memory_mb or 0.0,
        best=training.folder.path / str(record.best),
        best_epoch=record.best_epoch,
        last=training.folder.path / str(record.last),
        masking=record.after.masking,
        before=record.before,
        after=record.after,
        after_last=record.after_last,
        notes=record.notes,
        recipe=record.recipe,
        run_dir=training.folder.path,
        module=training.best,
    )
