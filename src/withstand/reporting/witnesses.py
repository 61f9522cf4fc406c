"""The worst witnesses of a run, ready to be shown."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from os import path
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from withstand.core.records import SampleRecord
from withstand.core.tally import AttackFigures, attack_figures
from withstand.reporting.pictures import Change, Picture, difference, is_picture, largest_changes, picture
from withstand.reporting.run import Run
from withstand.reporting.words import number

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Shown:
    """One witness. Either pictures (clean, adversarial, difference) or the largest changes are filled."""

    sample: SampleRecord
    was: str
    became: str
    replay: str
    pictures: list[tuple[str, Picture]]
    changes: list[Change]
    amplified: str


ROOM = 6_000_000
"""Characters of pictures that a page holds at most, so that it stays quick to open; a page of galleries shares them."""


def worst(run: Run, room: int = ROOM) -> list[Shown]:
    """The refuted samples the model gets most confidently wrong: lowest margin first, then the smallest distance.

    The distance cannot rank them: attacks walk to the edge of the threat, so most distances equal its radius. Samples
    whose witness file is missing or unreadable are passed over.
    """
    refuted = [sample for sample in run.samples if sample.status == "refuted" and sample.witness]
    refuted.sort(key=lambda s: (s.margin, s.distance if s.distance is not None else float("inf"), s.id))
    return list(_fitting(_readable(run, refuted), room))


def _fitting(shown: Iterator[Shown], room: int) -> Iterator[Shown]:
    """As many as have room, one at least."""
    left = room
    for item in shown:
        yield item
        left -= 1_000 + sum(len(picture.src) for _, picture in item.pictures)
        if left <= 0:
            return


@dataclass(frozen=True)
class Gallery:
    """One attack of a run in which each saw every sample: its figures, how many it refuted, and some of them."""

    attack: str
    figures: AttackFigures
    refuted: int
    shown: list[Shown]


def galleries(run: Run, room: int = ROOM) -> list[Gallery]:
    """What each attack found, with as many witnesses as have room; nothing for runs of other kinds."""
    if run.record.plan.verb != "attack" or not run.samples:
        return []
    made = []
    for attack in run.record.plan.attacks:
        hits = [_by(sample, attack) for sample in run.samples if attack in sample.attacks]
        refuted = sorted((hit for hit in hits if hit.status == "refuted"), key=lambda s: (s.margin, s.id))
        figures = attack_figures(run.samples, attack, run.record.plan.closest)
        hits = _readable(run, [hit for hit in refuted if hit.witness])
        shown = list(_fitting(hits, room // len(run.record.plan.attacks)))
        made.append(Gallery(attack, figures, len(refuted), shown))
    return made


def _by(sample: SampleRecord, attack: str) -> SampleRecord:
    """The record as one attack alone would have left it."""
    one = sample.attacks[attack]
    return sample.model_copy(
        update={
            "status": "refuted" if one.refuted else "unknown",
            "method": attack,
            "margin": sample.margin if one.margin is None else one.margin,
            "distance": one.distance,
            "adversarial": one.adversarial,
            "witness": one.witness,
        }
    )


def _readable(run: Run, samples: list[SampleRecord]) -> Iterator[Shown]:
    for sample in samples:
        file = _file(run.folder, str(sample.witness))
        arrays = _arrays(file) if file else None
        if file and arrays:
            yield _show(run, sample, file, *arrays)


def _file(folder: Path, name: str) -> Path | None:
    """The witness file inside the run folder, wherever the record names it from; never one outside."""
    inside = folder.resolve()
    for file in (folder / name, folder / "witnesses" / Path(name).name):
        if file.is_file() and file.resolve().is_relative_to(inside):
            return file
    return None


def _arrays(file: Path) -> tuple[NDArray, NDArray] | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            clean, adversarial = (np.asarray(stored[key], dtype=np.float64) for key in ("x0", "x"))
    except Exception:  # whatever a damaged file makes numpy raise
        return None
    if clean.shape != adversarial.shape or clean.size == 0:
        return None
    return clean, adversarial


def _show(run: Run, sample: SampleRecord, file: Path, clean: NDArray, adversarial: NDArray) -> Shown:
    was, became = run.label(sample.label), run.label(sample.adversarial) or "another answer"
    shape = tuple(run.record.input_shape)
    if clean.size == np.prod(shape):
        clean, adversarial = clean.reshape(shape), adversarial.reshape(shape)
    replay = _replay(run, file)
    if not is_picture(clean.shape):
        return Shown(sample, was, became, replay, [], largest_changes(clean, adversarial), "")
    domain = run.ball.domain if run.ball else (float(clean.min()), float(max(clean.max(), clean.min() + 1e-9)))
    change, full = difference(clean, adversarial, f"change of sample {sample.id}, amplified")
    pictures = [
        ("clean", picture(clean, domain, f"sample {sample.id}, clean, label {was}")),
        ("adversarial", picture(adversarial, domain, f"sample {sample.id}, adversarial, taken for {became}")),
        ("difference", change),
    ]
    gain = (domain[1] - domain[0]) / (2 * full)
    key = "mid grey: unchanged" if clean.shape[0] == 3 else "orange: brighter, blue: darker"
    amplified = f"{TIMES} {number(gain, 3)}, full colour is ±{number(full, 3)} ({key})"
    return Shown(sample, was, became, replay, pictures, [], amplified)


def _replay(run: Run, file: Path) -> str:
    """The line that replays a witness from inside the run folder: a model file is named as seen from there."""
    model = run.record.plan.model
    if (run.folder / "model.onnx").is_file():
        model = "model.onnx"
    elif Path(model).is_file() and not Path(model).is_absolute():
        model = Path(path.relpath(model, run.folder)).as_posix()
    witness = file.resolve().relative_to(run.folder.resolve()).as_posix()
    return shlex.join(["withstand", "replay", witness, "--model", model])
