"""A training run in memory: its record, its epochs, and the audits before and after it."""

from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from withstand.core.harden_records import EpochRecord, HardenRecord, Standing
from withstand.core.records import Check
from withstand.core.run_files import is_harden_run, present_state, read_epoch_records, read_harden_record
from withstand.reporting.run import Run, read_run
from withstand.reporting.words import number, percent


@dataclass(frozen=True)
class Training:
    """One folder of `withstand harden`. before, after: the audits, None where there is none (yet). state: of
    the record, or "interrupted" where nothing goes on with what it tells."""

    folder: Path
    record: HardenRecord
    epochs: list[EpochRecord]
    before: Run | None
    after: Run | None
    state: str = "complete"

    @property
    def audits(self) -> list[Run]:
        """The audits there are, the one before first."""
        return [run for run in (self.before, self.after) if run is not None]


@dataclass(frozen=True)
class Line:
    """One figure of the table: its name, what it means, and the values before and after as texts."""

    name: str
    meaning: str
    before: str
    after: str


def is_training(folder: str | PathLike[str]) -> bool:
    """Whether a folder is one of `withstand harden`."""
    return is_harden_run(Path(folder) / "run.json")


def read_training(folder: str | PathLike[str]) -> Training:
    """The training run in a folder. Raises InputError where a file cannot be read."""
    folder = Path(folder)
    record = read_harden_record(folder / "run.json")
    audits = [folder / part for part in ("before", "after")]
    before, after = (read_run(audit) if (audit / "run.json").is_file() else None for audit in audits)
    state = present_state(folder, record.state)
    return Training(folder, record, read_epoch_records(folder / "epochs.jsonl"), before, after, state)


def lines(training: Training) -> list[Line]:
    """The figures before and after, side by side. Upper ends are rounded up and lower ends down, so that both hold."""
    sides = (training.record.before, training.record.after)
    attack = next((one.pgd_attack for one in sides if one is not None and one.pgd_attack), None)
    table = [
        ("clean", "right answers on clean inputs", "clean_accuracy", "near"),
        ("PGD", f"left by {attack or 'PGD'} alone", "pgd_accuracy", "high"),
        ("attacked", "left by all attacks, per sample: an upper end", "attacked_accuracy", "high"),
        ("certified", "proved: a lower end", "certified_accuracy", "low"),
    ]
    return [Line(name, meaning, *(_share(one, key, end) for one in sides)) for name, meaning, key, end in table]


def _share(one: Standing | None, key: str, end: str) -> str:
    value = None if one is None else getattr(one, key)
    if one is None or value is None:
        return "not measured"
    return percent(value, one.n, end)  # pyright: ignore[reportArgumentType]


def headline(training: Training) -> str:
    """The run in one plain sentence: what was gained, and what it cost on clean inputs."""
    record = training.record
    before, after = record.before, record.after
    if after is None:
        return f"{record.model} against {record.threat} by {record.objective}: {progress(training)}"
    gained = f"{percent(after.clean_accuracy, after.n)} right when clean"
    if after.attacked_accuracy is not None:
        gained += f", at most {percent(after.attacked_accuracy, after.n, 'high')} robust"
    if after.certified_accuracy is not None:
        gained += f", {percent(after.certified_accuracy, after.n, 'low')} proved"
    text = f"{record.objective} at {record.threat}: after training {gained}"
    if before is None:
        return f"{text}, of {after.n:,} held-out samples."
    was = f"{percent(before.clean_accuracy, before.n)} right when clean"
    if before.attacked_accuracy is not None:
        was += f", at most {percent(before.attacked_accuracy, before.n, 'high')} robust"
    return f"{text}; before {was}; of {after.n:,} held-out samples."


def progress(training: Training) -> str:
    """How far the training came."""
    record = training.record
    done = f"{record.epochs_done} of {record.epochs} epochs are done"
    return {
        "complete": f"{done}.",
        "running": f"{done}; it is still running.",
        "interrupted": f"{done}; it was interrupted, and the same command with --resume goes on.",
        "stopped": f"{done}; it was stopped, see the notes.",
    }[training.state]


def masking_rows(training: Training) -> list[tuple[str, Check | None, Check | None]]:
    """The findings on masked gradients by name, before and after, in the order they were made."""
    sides = [{} if one is None else {check.name: check for check in one.masking} for one in _standings(training)]
    names = list(dict.fromkeys(name for side in sides for name in side))
    return [(name, sides[0].get(name), sides[1].get(name)) for name in names]


def _standings(training: Training) -> Sequence[Standing | None]:
    return (training.record.before, training.record.after)


def verdict(one: Standing | None) -> str:
    """What the findings on masked gradients say together."""
    if one is None or not one.masking:
        return "not looked at"
    failed = [check.name for check in one.masking if check.outcome == "fail"]
    warned = [check.name for check in one.masking if check.outcome == "warn"]
    if failed:
        return f"masking suspected ({', '.join(failed)})"
    return f"warned of {', '.join(warned)}" if warned else "no sign of masked gradients"


def setting(text: str) -> str:
    """A setting of a recipe as a person writes it: the record holds what Python writes.

    >>> setting("(0.0, 0.2)"), setting("()"), setting("None"), setting("one-cycle"), setting("('awp', 'fast')")
    ('0, 0.2', 'none', 'none', 'one-cycle', 'awp, fast')
    """
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    parts = list(value) if isinstance(value, list | tuple) else [value]
    told = ["none" if p is None else f"{p:g}" if isinstance(p, float) else str(p) for p in parts]
    return ", ".join(told) or "none"


def figures_text(check: Check) -> str:
    """A finding's numbers in one line."""
    parts = []
    for key, value in check.figures.items():
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        parts.append(f"{key.replace('_', ' ')} {number(value) if numeric else value}")
    return " · ".join(parts)
