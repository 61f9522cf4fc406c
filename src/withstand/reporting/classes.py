"""How each class of a run fared."""

from dataclasses import dataclass

from withstand.core.tally import is_unattacked
from withstand.reporting.run import Run

NO_CLASSES = ("band", "multi-label")
"""Properties whose labels are no classes."""


@dataclass(frozen=True)
class ClassRow:
    """One class: its samples, how many are right when clean, surely survive (are proved), and survive at most (are
    neither refuted nor wrong when clean; None: not measured, as no attack looked at some)."""

    name: str
    n: int
    right: int
    surely: int
    at_most: int | None


def by_class(run: Run) -> list[ClassRow]:
    """The classes of a run's labels in their order; nothing where labels are no classes, or there is only one."""
    if run.record.plan.property.startswith(NO_CLASSES):
        return []
    labels = sorted({sample.label for sample in run.samples})
    if len(labels) < 2 or not all(float(label).is_integer() for label in labels):
        return []
    rows = []
    for label in labels:
        own = [sample for sample in run.samples if sample.label == label]
        status = [sample.status for sample in own]
        n, wrong, refuted = len(status), status.count("invalid"), status.count("refuted")
        at_most = None if any(map(is_unattacked, own)) else n - wrong - refuted
        rows.append(ClassRow(run.label(label), n, n - wrong, status.count("proved"), at_most))
    return rows


def weakest(rows: list[ClassRow], count: int) -> list[ClassRow]:
    """The classes of which the smallest shares survive, weakest first."""
    return sorted(rows, key=lambda row: ((row.n if row.at_most is None else row.at_most) / row.n, row.surely / row.n))[
        :count
    ]
