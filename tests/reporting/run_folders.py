"""Run folders made by hand, with numbers the tests know."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from withstand.core.records import (
    Alarm,
    Check,
    Counts,
    CurvePoint,
    Interval,
    Origin,
    Plan,
    RunRecord,
    SampleRecord,
    Seconds,
    StatusName,
    Summary,
)


def origin() -> Origin:
    return Origin(
        withstand="0.1.0",
        python="3.11.4",
        packages={"torch": "2.13.0", "onnxruntime": "1.30.0"},
        platform="Linux x86_64",
        processor="A processor",
        cores=2,
        model_digest="sha256:11aa",
        data_digest="sha256:22bb",
    )


def sample(id: int, status: StatusName, label: int, adversarial: int, witness: str | None = None) -> SampleRecord:
    refuted, proved = status == "refuted", status == "proved"
    clean = -0.5 if status == "invalid" else 1 + (id * 37 % 101) / 20
    return SampleRecord(
        id=id,
        label=label,
        predicted=label if status != "invalid" else adversarial,
        status=status,
        reason="bound -0.12 after ibp and crown; the budget ended" if status == "unknown" else "",
        method={"proved": "crown", "refuted": "pgd", "unknown": None, "invalid": None}[status],
        grade="float32" if proved else None,
        clean_margin=clean,
        margin=-0.01 * (id % 17 + 1) if refuted else clean / 2,
        bound=0.3 if proved else -0.12 if status == "unknown" else None,
        distance=0.1 if refuted else None,
        adversarial=adversarial if refuted else None,
        witness=witness,
        queries=40 + id % 7,
        gradients=40,
        seconds=0.011,
    )


def status_of(place: int, counts: Counts) -> StatusName:
    """Which verdict the sample at a place gets, so that the verdicts come in the given amounts, well mixed."""
    n = counts.proved + counts.refuted + counts.unknown + counts.invalid
    place = place * 7919 % n
    if place < counts.proved:
        return "proved"
    if place < counts.proved + counts.refuted:
        return "refuted"
    return "unknown" if place < counts.proved + counts.refuted + counts.unknown else "invalid"


def digit(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Something that looks like a picture: a bright blob on a dark ground."""
    if len(shape) != 3:
        return rng.uniform(0, 1, shape)
    rows, columns = np.mgrid[: shape[1], : shape[2]] / max(shape[1:])
    middle = rng.uniform(0.35, 0.65, (shape[0], 2, 1, 1))
    return np.clip(1.2 * np.exp(-30 * ((rows - middle[:, 0]) ** 2 + (columns - middle[:, 1]) ** 2)), 0, 1)


def make_run(
    folder: Path,
    counts: Counts,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: list[str] | None = None,
    model: str = "digits-cnn",
    threat: str = "linf:0.1",
    alarms: list[Alarm] | None = None,
    state: str = "complete",
    samples: int | None = None,
) -> Path:
    """A run folder of version 1 with the given verdicts; every refuted sample has a witness file at distance 0.1.

    samples: how many the run is to settle, those it has unless given."""
    n = counts.proved + counts.refuted + counts.unknown + counts.invalid
    low, high, clean = counts.proved / n, (counts.proved + counts.unknown) / n, 1 - counts.invalid / n
    (folder / "witnesses").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for id in range(n):
        status = status_of(id, counts)
        label, adversarial = id % 10, (id + 3) % 10
        name = f"witnesses/{id:06d}.npz" if status == "refuted" else None
        lines.append(sample(id, status, label, adversarial, name).model_dump_json())
        if name:
            x0 = digit(rng, shape)
            x = np.clip(x0 + 0.1 * rng.choice([-1, 1], shape), 0, 1)
            np.savez(folder / name, x0=x0.astype(np.float32), x=x.astype(np.float32), y=label, id=id)
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = RunRecord(
        plan=Plan(
            model=model,
            data="digits",
            threat=threat,
            limit=n,
            seed=7,
            budget_seconds=600,
            attacks=["noise", "pgd:steps=40,restarts=2", "apgd", "square"],
            verifiers=["ibp", "crown"],
            curve=[0.25, 0.5, 1.0, 1.5],
        ),
        origin=origin(),
        state=state,  # pyright: ignore[reportArgumentType]
        samples=samples or n,
        began=datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC),
        input_shape=list(shape),
        classes=classes,
        checks=[
            Check(
                name="clean accuracy",
                outcome="pass",
                sentence="As given and through us alike.",
                figures={"clean": clean},
            ),
            Check(
                name="input range",
                outcome="note",
                sentence="All inputs lie in [0, 1].",
                figures={"low": 0.0, "high": 1},
            ),
            Check(name="logits", outcome="warn", sentence="The outputs look like probabilities."),
        ],
        summary=Summary(
            n=n,
            clean_accuracy=clean,
            certified_accuracy=low,
            attacked_accuracy=high,
            counts=counts,
            population_interval=Interval(low=max(0.0, low - 0.02), high=min(1.0, high + 0.02)),
            seconds=Seconds(doctor=0.4, attack=12.25, verify=43, total=56.1),
            queries=123_456,
            gradients=100_000,
            peak_memory_mb=512,
            alarms=alarms or [],
        ),
        curve=[
            CurvePoint(radius=0.025, certified=clean - 0.2 * (clean - low), attacked=clean - 0.1 * (clean - high)),
            CurvePoint(radius=0.05, certified=clean - 0.5 * (clean - low), attacked=clean - 0.4 * (clean - high)),
            CurvePoint(radius=0.1, certified=low, attacked=high),
            CurvePoint(radius=0.15, certified=low * 0.4, attacked=high * 0.7),
        ],
    )
    (folder / "run.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return folder
