"""Every class in turn as the target of attacks."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from withstand.auditing.attacked import Attacked, TargetFigures
from withstand.auditing.order import Order, carry_out
from withstand.auditing.question import pose
from withstand.core.errors import InputError
from withstand.core.records import EndedBy, SampleRecord
from withstand.core.tally import AttackFigures, attack_figures, is_unattacked

ALL = "all-targets"
"""The property's name on the command line and in `withstand.attack`."""


def all_targets(order: Order) -> Attacked:
    """Attack each sample once for every class that is not its own: the question `not-class:T` for every class T.

    A sample counts as refuted where it was brought to any class. An attack's costs are summed over the targets, its
    distances are those of all of them. With a folder, each target has a run of its own in it, `target-T`.
    """
    if order.radii:
        raise InputError("A curve is for one property at a time; leave --radii out, or choose a target by not-class:T.")
    with pose(order.model, order.data, order.threat, limit=order.limit, device=order.device) as question:
        classes = math.prod(question.model.output_shape)
        with torch.no_grad():
            margins = question.property.margin(question.model(question.x), question.y)
        right, ids, inputs = margins > 0, question.data.ids, question.x.cpu()
        clean = dict(zip(ids, margins.tolist(), strict=True))
        labels = dict(zip(question.data.ids, question.y.tolist(), strict=True))
        valid = {i for i, ok in zip(question.data.ids, right.tolist(), strict=True) if ok}
    parts: dict[int, Attacked] = {}
    wrong: dict[int, SampleRecord] = {}
    for target in range(classes):
        out = None if order.out is None else Path(order.out) / f"target-{target}"
        part = carry_out(replace(order, property=f"not-class:{target}", out=out))
        tried = [s for s in part.samples if s.id in valid and labels[s.id] != target and s.status != "invalid"]
        parts[target] = replace(part, samples=tried)
        wrong |= {s.id: _invalid(s, clean[s.id]) for s in part.samples if s.id not in valid}
        if part.ended_by == "interrupt":
            break
    merged = _merged(order, parts, [i in valid for i in labels], list(labels), classes)
    worst = {id: found for id in ids if (found := _worst(id, parts, order.closest)) is not None}
    records = {id: record for id, (record, _) in worst.items()} | wrong
    return replace(
        merged,
        samples=[records[id] for id in ids if id in records],
        inputs=inputs[[row for row, id in enumerate(ids) if id in records]],
        witnesses={id: witness for id, (_, witness) in worst.items() if witness is not None},
    )


def _worst(id: int, parts: dict[int, Attacked], nearest: bool) -> tuple[SampleRecord, Tensor | None] | None:
    """The record of the target that a sample came nearest to, and its witness; None where no target was tried."""
    tried = [(target, sample) for target, part in parts.items() for sample in part.samples if sample.id == id]
    struck = [(target, sample) for target, sample in tried if sample.status == "refuted"]
    if not tried:
        return None
    key = "distance" if nearest and struck else "margin"
    target, sample = min(struck or tried, key=lambda pair: getattr(pair[1], key))
    if sample.witness:
        sample = sample.model_copy(update={"witness": f"target-{target}/{sample.witness}"})
    return sample, parts[target].witnesses.get(id)


def _invalid(sample: SampleRecord, margin: float) -> SampleRecord:
    """The record of a sample whose class is wrong when clean, which no target counts."""
    kept = {name: getattr(sample, name) for name in ("id", "label", "predicted", "queries", "gradients", "seconds")}
    return SampleRecord(**kept, status="invalid", clean_margin=margin, margin=margin)


def _merged(order: Order, parts: dict[int, Attacked], right: list[bool], ids: list[int], classes: int) -> Attacked:
    """The figures over all targets; an upper end is measured where every target's is."""
    whole = len(parts) == classes and not any(is_unattacked(s) for part in parts.values() for s in part.samples)
    ended: list[EndedBy] = [part.ended_by for part in parts.values() if part.ended_by is not None]
    broken = {s.id for part in parts.values() for s in part.samples if s.status == "refuted"}
    n = len(ids)
    return Attacked(
        n=n,
        clean_accuracy=sum(right) / n,
        attacked_accuracy=(sum(right) - len(broken)) / n if whole else None,
        attacks={text: _figures(order, text, parts, sum(right), n, whole) for text in order.attacks},
        refuted=[i in broken for i in ids],
        run_dir=None if order.out is None else Path(order.out),
        state="partial" if ended else "complete",
        ended_by=ended[-1] if ended else None,
        targets={str(target): _target(part.samples) for target, part in parts.items()},
    )


def _figures(order: Order, text: str, parts: dict[int, Attacked], right: int, n: int, whole: bool) -> AttackFigures:
    samples = [sample for part in parts.values() for sample in part.samples]
    broken = {sample.id for sample in samples if sample.attacks[text].refuted}
    figures = attack_figures(samples, text, order.closest)
    measured = whole and figures.attacked_accuracy is not None
    return replace(figures, attacked_accuracy=(right - len(broken)) / n if measured else None)


def _target(samples: list[SampleRecord]) -> TargetFigures:
    held = sum(sample.status != "refuted" for sample in samples)
    measured = bool(samples) and not any(map(is_unattacked, samples))
    return TargetFigures(len(samples), held / len(samples) if measured else None)
