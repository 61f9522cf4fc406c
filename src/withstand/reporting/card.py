"""The model card of a training run: what was trained on what, how, what it measures, and what to beware of."""

import shlex
from os import PathLike
from pathlib import Path

from withstand.core.errors import InputError
from withstand.core.harden_records import HardenRecord, Standing
from withstand.reporting.harden import Training, lines, progress, read_training, setting, verdict
from withstand.reporting.words import duration


def write_card(folder: str | PathLike[str]) -> Path:
    """Write `card.md` into the folder of a training run, from its records; return its path.

    Raises InputError where the records cannot be read or the file cannot be written.
    """
    training = read_training(folder)
    target = training.folder / "card.md"
    try:
        target.write_text(card(training), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); make its folder writable.") from None
    return target


def card(training: Training) -> str:
    """The card in Markdown."""
    record = training.record
    measured = [[line.name, line.before, line.after, line.meaning] for line in lines(training)]
    recipe = {"objective": record.objective} | record.recipe
    parts = [
        f"# {record.model}, hardened by {record.objective} against {record.threat}",
        f"{progress(training)} Trained with withstand on {record.data}.",
        "## Architecture",
        _architecture(record),
        "## Data and split",
        _data(record),
        "## Recipe",
        _table(
            ["parameter", "value"],
            [[name, setting(text)] for name, text in recipe.items()],
        ),
        f"Seed {record.seed}. The weights are those of epoch {record.best_epoch or 'none yet'}, chosen by "
        f"{record.chosen_by}. Training took {duration(record.seconds)}, {duration(record.cpu_seconds)} of CPU time.",
        *([_code(record.command)] if record.command else []),
        "## Measured",
        _table(["accuracy", "before", "after", "what it is"], measured),
        _measuring(training),
        "## Beware",
        "\n".join(f"- {warning}" for warning in warnings(training)),
    ]
    return "\n\n".join(parts).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def warnings(training: Training) -> list[str]:
    """What a user of the weights must know, a sentence each."""
    record = training.record
    said = [
        f"The figures are about {record.threat} and say nothing of other threats, radii or data.",
        "Accuracy after attacks is an upper end: a stronger attack may find more. Only what is certified is proved.",
    ]
    if record.after is None:
        said.append("Nothing was measured after training.")
    else:
        said += _doubts(record.after)
    if training.state != "complete":
        said.append(f"The training is {training.state}: {record.epochs_done} of {record.epochs} epochs are done.")
    return said + record.notes


def _doubts(after: Standing) -> list[str]:
    said = [f"On masked gradients: {verdict(after)}."]
    said += [f"{check.name}: {check.sentence}" for check in after.masking if check.outcome in ("warn", "fail")]
    if after.certified_accuracy is None:
        said.append("No proof was tried.")
    return said


def _architecture(record: HardenRecord) -> str:
    listed = _code("\n".join(record.architecture)) if record.architecture else "Not recorded."
    return listed if record.parameters is None else f"{listed}\n\n{record.parameters:,} weights."


def _data(record: HardenRecord) -> str:
    split = record.split
    if split is None:
        return f"{record.data}."
    text = (
        f"{record.data}: {split.train:,} samples to train, {split.validation:,} to validate, {split.test:,} held out."
    )
    if split.unlabelled:
        text += f" {split.unlabelled:,} more without labels."
    return f"{text} {split.sentence}".strip()


def _measuring(training: Training) -> str:
    """The commands that measure the figures again on the best weights."""
    record = training.record
    if record.after is None:
        return "Not measured yet."
    n, attack = record.after.n, record.after.pgd_attack
    held = record.split.held if record.split else None
    exported = (training.folder / "best.onnx").is_file()
    model, data = "best.onnx" if exported else "MODEL", "HELD-OUT" if held is None else shlex.quote(held)
    question = f"{model} --data {data} --threat {record.threat} --limit {n} --seed {record.seed}"
    commands = [f"withstand audit {question}", f"withstand masking {question}"]
    commands += [f"withstand attack {question} --attack {attack}"] if attack else []
    said = [f"On {n:,} held-out samples, by these commands."]
    said += [] if exported or not record.best else [f"MODEL loads `{record.best}`."]
    said += ["HELD-OUT stands for these samples, which no DATA names."] if held is None else []
    if training.after is not None:
        proofs = ", ".join(training.after.record.plan.verifiers)
        said.append(f"The table's proofs are those of {proofs}; the audit goes on to stronger ones.")
    return f"{' '.join(said)}\n\n{_code(chr(10).join(commands))}"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _code(text: str) -> str:
    return f"```\n{text}\n```"
