"""Attacks alone: any list of them, each one's figures and the pointwise worst case."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from withstand.auditing.alarms import raise_alarms
from withstand.auditing.campaign import Campaign
from withstand.auditing.figures import curve
from withstand.auditing.ledger import Ledger, name_of_source
from withstand.auditing.plan import make_plan, radii_of, seconds_of
from withstand.auditing.progress import Listener
from withstand.auditing.question import pose
from withstand.auditing.requirements import check_attacks, stand_in
from withstand.auditing.runfolder import RunFolder
from withstand.auditing.siege import Means
from withstand.auditing.universal import Fitting, UniversalFigures
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.records import Alarm, AttackRecord, Plan
from withstand.core.registry import build_attack, suggest
from withstand.core.runner import Access
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike


@dataclass(frozen=True)
class AttackFigures:
    """One attack on its own. median_distance: of its witnesses, in the threat's norm (None: it found none); where the
    nearest violation was asked for, over all samples right when clean, infinite where it found none."""

    attacked_accuracy: float
    median_distance: float | None
    queries: int
    gradients: int
    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class Attacked:
    """What attacks did. attacked_accuracy: share of the n samples that withstood all (the pointwise worst case).

    attacks: each attack's own figures, by its text. refuted: per sample, whether any attack refuted it. curve: radius
    and attacked accuracy, where radii were asked for. alarms: signs that the attacks were hindered. run_dir: the folder
    that keeps it all, where one was named; state: "partial" if the run was interrupted, n then counts what is settled.
    universal: what is to be known of universal attacks besides, by their text.
    """

    n: int
    clean_accuracy: float
    attacked_accuracy: float
    attacks: dict[str, AttackFigures]
    refuted: list[bool]
    curve: list[dict[str, float]] | None = None
    alarms: list[Alarm] = field(default_factory=list)
    run_dir: Path | None = None
    state: Literal["partial", "complete"] = "complete"
    universal: dict[str, UniversalFigures] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the list of samples."""
        held = {"n": self.n, "clean_accuracy": self.clean_accuracy, "attacked_accuracy": self.attacked_accuracy}
        held["attacks"] = {name: asdict(figures) for name, figures in self.attacks.items()}
        if self.universal:
            held["universal"] = {name: asdict(figures) for name, figures in self.universal.items()}
        return held if self.curve is None else {**held, "curve": self.curve}


def attack(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    attacks: Sequence[str] = ("pgd",),
    *,
    property: str | Property = "argmax",
    limit: int | None = None,
    budget: float | str | None = None,
    queries: int | None = None,
    access: str = "gradient",
    eot: int = 1,
    surrogate: "ModelLike | None" = None,
    train: "DataLike | None" = None,
    closest: bool = False,
    radii: Sequence[float] = (),
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Listener | None = None,
) -> Attacked:
    """Run each attack on every sample that is right when clean; witnesses count once onnxruntime confirms them.

    attacks: as `pgd:steps=100,restarts=5`. budget: wall time each attack may take, in seconds or as "10m" (none: to
    its end). queries: forward passes a sample that each attack may spend. access: what attacks see of the model:
    gradient, scores (gradients are estimated from them) or labels. eot: draws of a random model that are averaged; a
    point then counts where most of fresh draws violate. surrogate: a model that the attacks see instead; what they find
    counts by what `model` says. train: data that universal attacks are fitted on; without it that is the first half of
    `data`, and all attacks are measured on the second. closest: look for the nearest violation at whatever radius; the
    threat's own then decides who is refuted. radii: of a curve; a point of a small radius counts for the larger. out: a
    run folder, as of an audit; a folder that holds samples of the same question is resumed. progress: called with each
    event.

    With `property="all-targets"` each sample is attacked once for every class that is not its own; see
    `withstand.auditing.targets`.

    Raises InputError when an input cannot be used, or an attack is unknown or does not fit the question; ModelRaised,
    which names the sample, when the model raises: samples finished before are in the folder.
    """
    built = {text: build_attack(text) for text in attacks}
    if not built:
        raise InputError("No attack is named; write for example pgd:steps=100,restarts=5.")
    seconds = None if budget is None else seconds_of(budget)
    with (
        pose(model, data, threat, property, limit=limit, device=device) as question,
        stand_in(surrogate, question) as seen,
    ):
        means = Means(_access(access), seen, _draws(eot), queries, closest, _radii(radii, question.threat), seed)
        check_attacks(question, means, built)
        fitting = Fitting(question, built, train, means, seconds, out)
        question = fitting.question
        if out is None:
            campaign = Campaign(question, means, fitting.fit(), seconds, progress)
            campaign.go()
            return _result(campaign, fitting)
        sources = (model, data, surrogate, train)
        names = [None if source is None else name_of_source(source) for source in sources]
        folder = RunFolder(out)
        folder.open()
        try:
            plan = _plan(names, threat, fitting, limit, seconds)
            ledger = Ledger(plan, question, folder, Budget())
            campaign = Campaign(question, means, fitting.fit(), seconds, progress, ledger)
            return _result(campaign, fitting, "complete" if campaign.go() else "partial")
        finally:
            folder.close()


def _access(text: str) -> Access:
    try:
        return Access(text)
    except ValueError:
        raise InputError(f"Access {text!r} is not known; {suggest(text, [one.value for one in Access])}") from None


def _draws(eot: int) -> int:
    if eot < 1:
        raise InputError(f"There must be at least one draw of a random model, not {eot}.")
    return eot


def _radii(radii: Sequence[float], threat: Threat) -> tuple[float, ...]:
    """The radii of a curve in rising order, as a plan of it would read back."""
    if radii and not (threat.radius > 0 and all(0 < radius < math.inf for radius in radii)):
        raise InputError("The radii of a curve, and the threat's own, must be positive numbers; correct them.")
    return radii_of(_curve_plan(radii, threat), threat)


def _curve_plan(radii: Sequence[float], threat: Threat) -> Plan:
    return Plan(model="", data="", threat="", curve=[radius / threat.radius for radius in radii])


def _plan(
    names: Sequence[str | None],
    threat: str | Threat,
    fitting: Fitting,
    limit: int | None,
    seconds: float | None,
) -> Plan:
    means, question = fitting.means, fitting.question
    base = _curve_plan(means.radii, question.threat).model_copy(
        update={
            "verb": "attack",
            "attacks": list(fitting.methods),
            "queries": means.queries,
            "access": means.access.value,
            "draws": means.draws,
            "surrogate": names[2],
            "train": names[3],
            "skip": fitting.skip,
            "closest": means.nearest,
        }
    )
    text = str(question.property)
    return make_plan(
        str(names[0]), str(names[1]), threat, text, limit=limit, seed=means.seed, budget=seconds, base=base
    )


def _result(campaign: Campaign, fitting: Fitting, state: Literal["partial", "complete"] = "complete") -> Attacked:
    samples, means, ledger = campaign.ordered, campaign.means, campaign.ledger
    right = [sample for sample in samples if sample.status != "invalid"]
    n = max(1, len(samples))
    refuted = [sample.status == "refuted" for sample in samples]
    points = curve(samples, means.radii) if means.radii else None
    return Attacked(
        n=len(samples),
        clean_accuracy=len(right) / n,
        attacked_accuracy=(len(right) - sum(refuted)) / n,
        attacks={text: _figures([sample.attacks[text] for sample in right], n, means) for text in campaign.attacks},
        refuted=refuted,
        curve=None if points is None else [{"radius": p.radius, "attacked_accuracy": p.attacked} for p in points],
        alarms=raise_alarms(samples, [], proofs=False),
        run_dir=None if ledger is None else ledger.folder.path,
        state=state,
        universal=fitting.figures,
    )


def _figures(records: list[AttackRecord], n: int, means: Means) -> AttackFigures:
    """One attack's figures, from its records of the samples right when clean, of n in all."""
    if means.nearest:
        far = [math.inf if record.distance is None else record.distance for record in records]
    else:
        far = [record.distance for record in records if record.refuted and record.distance is not None]
    return AttackFigures(
        attacked_accuracy=sum(not record.refuted for record in records) / n,
        median_distance=statistics.median(far) if far else None,
        queries=sum(record.queries for record in records),
        gradients=sum(record.gradients for record in records),
        cpu_seconds=sum(record.cpu_seconds for record in records),
        seconds=sum(record.seconds for record in records),
    )
