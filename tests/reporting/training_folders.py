"""Folders of training runs made by hand, with numbers the tests know."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from run_folders import make_run, origin

from withstand.core.harden_records import EpochRecord, HardenRecord, Split, Standing
from withstand.core.records import Check, Counts

BEFORE = Counts(proved=0, refuted=180, unknown=14, invalid=6)
AFTER = Counts(proved=120, refuted=22, unknown=46, invalid=12)


def findings(outcome: Literal["pass", "fail"]) -> list[Check]:
    return [
        Check(
            name="one step against many",
            outcome="pass",
            sentence="One gradient step leaves 0.930, 50 leave 0.926.",
            figures={"one_step_accuracy": 0.93, "pgd_accuracy": 0.926},
        ),
        Check(
            name="black box",
            outcome=outcome,
            sentence="Square with 1000 queries breaks 3 of 200 samples that gradients did not.",
            figures={"share": 0.015, "queries": 1000},
            samples=list(range(3, 25)),
        ),
        Check(name="transfer", outcome="note", sentence="Not looked at: no other model was given."),
        Check(name="local linearity", outcome="warn", sentence="Gradients turn.", figures={"mean_cosine": 0.21}),
    ]


def standing(counts: Counts, pgd: float, masking: Literal["pass", "fail"]) -> Standing:
    n = counts.proved + counts.refuted + counts.unknown + counts.invalid
    return Standing(
        n=n,
        clean_accuracy=1 - counts.invalid / n,
        pgd_accuracy=pgd,
        pgd_attack="pgd:steps=100",
        attacked_accuracy=(counts.proved + counts.unknown) / n,
        certified_accuracy=counts.proved / n,
        masking=findings(masking),
    )


def epoch(number: int) -> EpochRecord:
    learnt = 1 - 0.7**number
    return EpochRecord(
        epoch=number,
        step=40 * number,
        learning_rate=0.01 / number,
        radius=0.1,
        loss=2.3 - 1.9 * learnt,
        logs={"robust": 1.2 - learnt},
        clean=0.1 + 0.87 * learnt,
        pgd=0.05 + 0.85 * learnt - (0.02 * max(0, number - 7)),
        fgsm=0.08 + 0.85 * learnt,
        seconds=2.5,
        cpu_seconds=4.75,
    )


def make_training(
    folder: Path,
    state: Literal["running", "partial", "complete", "stopped"] = "complete",
    epochs: int = 10,
    model: str = "digits-cnn",
    masking: Literal["pass", "fail"] = "pass",
) -> Path:
    """The folder of a run of TRADES; while it is running, there is no audit after it."""
    done = state == "complete"
    make_run(folder / "before", BEFORE)
    if done:
        make_run(folder / "after", AFTER)
    record = HardenRecord(
        model=model,
        data="digits",
        threat="linf:0.1",
        objective="trades",
        recipe={"beta": "6.0", "attack": "pgd:steps=10", "learning_rate": "0.01", "batch": "128"},
        command="withstand harden digits-cnn --data digits --threat linf:0.1 --recipe trades --epochs 10",
        split=Split(train=1200, validation=200, test=200, held="digits:test", sentence="As it comes."),
        origin=origin(),
        architecture=["Conv2d(1, 16, 3)", "ReLU", "Linear(512, 10)"],
        parameters=38282,
        state=state,
        epochs=10,
        epochs_done=epochs,
        best_epoch=7 if epochs >= 7 else None,
        best="best.safetensors" if epochs >= 7 else None,
        last="last.safetensors",
        notes=["In epoch 4 one-step accuracy rose while PGD accuracy fell; the guard lowered the step."],
        began=datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC),
        before=standing(BEFORE, 0.085, "pass"),
        after=standing(AFTER, 0.84, masking) if done else None,
        seconds=25.0,
        cpu_seconds=47.5,
        peak_memory_mb=612,
    )
    (folder / "run.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
    lines = [epoch(number).model_dump_json() + "\n" for number in range(1, epochs + 1)]
    (folder / "epochs.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
