"""The table of samples as data for the page's script, which sorts, filters and pages it."""

import math
from typing import Any

from withstand.core.records import SampleRecord
from withstand.reporting.run import Run
from withstand.reporting.words import NAMES

COLUMNS: list[dict[str, str]] = [
    {"title": "sample", "kind": "id"},
    {"title": "verdict", "kind": "verdict"},
    {"title": "settled by", "kind": "text"},
    {"title": "label", "kind": "text"},
    {"title": "predicted", "kind": "text"},
    {"title": "adversarial", "kind": "text"},
    {"title": "clean margin", "kind": "number"},
    {"title": "lowest margin seen", "kind": "number"},
    {"title": "proven bound", "kind": "number"},
    {"title": "distance", "kind": "number"},
    {"title": "queries", "kind": "number"},
    {"title": "seconds", "kind": "number"},
    {"title": "note", "kind": "text"},
]


EXECUTED: dict[bool | None, str] = {True: "holds as run", False: "real arithmetic only"}
"""Whether a proof holds for the network as it is run, in the note."""


def table(run: Run) -> dict[str, Any]:
    """Columns, names of the verdicts and one list a sample; numbers to five significant digits."""
    return {"columns": COLUMNS, "verdicts": NAMES, "rows": [_row(run, sample) for sample in run.samples]}


def methods(run: Run) -> list[str]:
    """Who settled a sample of the run, for the filter."""
    return sorted({sample.method for sample in run.samples if sample.method})


def _row(run: Run, s: SampleRecord) -> list[Any]:
    note = " · ".join(part for part in (s.reason, s.grade, EXECUTED.get(s.executed), s.witness, s.certificate) if part)
    labels = [run.label(s.label), run.label(s.predicted), run.label(s.adversarial)]
    margins = [_short(value) for value in (s.clean_margin, s.margin, s.bound, s.distance)]
    return [s.id, s.status, s.method or "", *labels, *margins, s.queries, _short(s.seconds), note]


def _short(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None
