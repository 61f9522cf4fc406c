"""What attacks did, as the caller gets it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from withstand.auditing.alarms import raise_alarms
from withstand.auditing.campaign import Campaign
from withstand.auditing.figures import curve
from withstand.auditing.frames import frame
from withstand.auditing.universal import UniversalFigures
from withstand.core.records import Alarm, EndedBy, SampleRecord, Seconds
from withstand.core.tally import AttackFigures, attack_figures, tally


@dataclass(frozen=True)
class TargetFigures:
    """One class as target. n: samples right when clean of other classes. attacked_accuracy: share of these that no
    attack brought to the target (None: there are none, or some was looked at by no attack)."""

    n: int
    attacked_accuracy: float | None


@dataclass(frozen=True)
class Attacked:
    """What attacks did. attacked_accuracy: share of the n samples that withstood all (the pointwise worst case), None
    where some sample was looked at by no attack: it is not measured.

    attacks: each attack's own figures, by its text. refuted: per sample, whether any attack refuted it. curve: radius
    and attacked accuracy, where radii were asked for. alarms: signs that the attacks were hindered. run_dir: the folder
    that keeps it all, where one was named; state: "partial" if the run was interrupted, n then counts what is settled,
    or if the time was over before everything was done: `ended_by` says which.
    universal: what is to be known of universal attacks besides, by their text. targets: figures by class, where each
    class in turn was the target. samples: the records, in the order of the data (where every class was a target, of the
    target that brought the margin lowest). inputs: these samples when clean [n, *shape]. witnesses: the worst input
    found of each refuted sample, by its number (in a search for the nearest, the nearest).
    """

    n: int
    clean_accuracy: float
    attacked_accuracy: float | None
    attacks: dict[str, AttackFigures]
    refuted: list[bool]
    curve: list[dict[str, float | None]] | None = None
    alarms: list[Alarm] = field(default_factory=list)
    run_dir: Path | None = None
    state: Literal["partial", "complete"] = "complete"
    ended_by: EndedBy | None = None
    universal: dict[str, UniversalFigures] = field(default_factory=dict)
    targets: dict[str, TargetFigures] = field(default_factory=dict)
    samples: list[SampleRecord] = field(default_factory=list, repr=False)
    inputs: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    witnesses: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @property
    def x(self) -> Tensor:
        """The adversarial inputs [n, *shape]: the witness of each refuted sample, and the clean input of the others."""
        x = self.inputs.clone()
        for place, sample in enumerate(self.samples):
            if sample.id in self.witnesses:
                x[place] = self.witnesses[sample.id]
        return x

    def to_frame(self) -> Any:
        """The samples as a pandas.DataFrame, one row each. Raises InputError where pandas is not installed."""
        return frame(self.samples)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the lists of samples."""
        held = {"n": self.n, "clean_accuracy": self.clean_accuracy, "attacked_accuracy": self.attacked_accuracy}
        held |= {} if self.ended_by is None else {"state": self.state, "ended_by": self.ended_by}
        held["attacks"] = {name: asdict(figures) for name, figures in self.attacks.items()}
        for name in ("universal", "targets"):
            if getattr(self, name):
                held[name] = {key: asdict(figures) for key, figures in getattr(self, name).items()}
        return held if self.curve is None else {**held, "curve": self.curve}


def attacked(campaign: Campaign, universal: dict[str, UniversalFigures], ended_by: EndedBy | None) -> Attacked:
    """The result of a campaign that has ended, and what ended it before everything was done."""
    samples, means, ledger = campaign.ordered, campaign.means, campaign.ledger
    points = curve(samples, means.radii) if means.radii else None
    figures = tally(samples, Seconds())
    return Attacked(
        n=len(samples),
        clean_accuracy=figures.clean_accuracy,
        attacked_accuracy=figures.attacked_accuracy,
        attacks={text: attack_figures(samples, text, means.nearest) for text in campaign.attacks},
        refuted=[sample.status == "refuted" for sample in samples],
        curve=None if points is None else [{"radius": p.radius, "attacked_accuracy": p.attacked} for p in points],
        alarms=raise_alarms(samples, [], proofs=False),
        run_dir=None if ledger is None else ledger.folder.path,
        state="complete" if ended_by is None else "partial",
        ended_by=ended_by,
        universal=universal,
        samples=samples,
        inputs=campaign.inputs,
        witnesses=campaign.witnesses,
    )
