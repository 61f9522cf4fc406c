"""The results of rows: repeats as one, verdicts, the printed table and the file."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from contest.rows import Row
from contest.task import Score

HEADINGS = ("row", "work", "ours", "figure", "CPU s", "other", "figure", "CPU s", "time ratio", "target", "verdict")


@dataclass(frozen=True)
class Entry:
    """One contender in a row: its median score over the repeats, or why there is none."""

    library: str
    name: str
    score: Score | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON values; figures that are not finite are null."""
        score = {} if self.score is None else asdict(self.score)
        finite = {name: value if math.isfinite(value) else None for name, value in score.items()}
        return {"library": self.library, "name": self.name, "score": finite or None, "why": self.why}


@dataclass(frozen=True)
class Outcome:
    """A row that has run on `count` images."""

    row: Row
    count: int
    ours: Entry
    others: Sequence[Entry]

    def value(self, entry: Entry) -> float:
        """The row's figure of an entry."""
        return math.nan if entry.score is None else getattr(entry.score, self.row.figure)

    def verdict(self) -> str:
        """`met`, or where it falls short, and who is better all the same; `stated` where nothing is asked."""
        row, ours = self.row, self.ours.score
        if ours is None:
            return self.ours.why
        if row.target is None:
            return "stated"
        if self.count < row.count:
            return f"first {self.count} only"
        sign = -1 if row.higher_is_better else 1
        value, target = sign * self.value(self.ours), row.target
        short = ["figure"] if value > sign * target.value + 5e-4 * abs(target.value) else []
        if target.seconds is not None and ours.seconds > target.seconds:
            short.append("time")
        first = next((entry.score for entry in self.others if entry.score is not None), None)
        if target.share is not None and first is None:
            short.append("no time to compare with")
        elif target.share is not None and first is not None and ours.seconds > target.share * first.seconds:
            short.append("time")
        better = "".join(
            f"; {e.library} {e.name} is better" for e in self.others if sign * self.value(e) < value - 1e-9
        )
        return ("short: " + ", ".join(short) if short else "met") + better

    def lines(self) -> Iterable[list[str]]:
        """Cells of the table, a line an opponent."""
        for number, other in enumerate(self.others or (Entry("", "none"),)):
            ours = [f"{self.ours.name}", *self._cells(self.ours)] if number == 0 else ["", "", ""]
            key = [self.row.key, f"{self.row.model} {self.row.threat}, {self.count}"] if number == 0 else ["", ""]
            ratio = ""
            if self.ours.score is not None and other.score is not None and other.score.seconds > 0:
                ratio = f"{self.ours.score.seconds / other.score.seconds:.3f}"
            last = [self._target(), self.verdict()] if number == 0 else ["", ""]
            yield [*key, *ours, f"{other.library} {other.name}".strip(), *self._cells(other), ratio, *last]

    def _cells(self, entry: Entry) -> list[str]:
        if entry.score is None:
            return [entry.why, ""]
        extra = ""
        if self.row.figure in ("success", "median"):
            other = "success" if self.row.figure == "median" else "median"
            extra = f" ({other} {getattr(entry.score, other):.4g}, {entry.score.queries:.0f} queries)"
        return [f"{self.value(entry):.4g}{extra}", f"{entry.score.seconds:.2f}"]

    def _target(self) -> str:
        target = self.row.target
        if target is None:
            return ""
        text = f"{'>=' if self.row.higher_is_better else '<='} {target.value:g}"
        text += "" if target.seconds is None else f" in {target.seconds:g} s"
        return text + ("" if target.share is None else f" in {target.share:g} of the time")

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        row = self.row
        held = {"model": row.model, "threat": row.threat, "count": self.count, "figure": row.figure}
        held["target"] = None if row.target is None else asdict(row.target)
        entries = {"ours": self.ours.to_json(), "others": [entry.to_json() for entry in self.others]}
        return {**held, **entries, "verdict": self.verdict(), "date": str(date.today())}


def median(scores: Sequence[Score]) -> Score:
    """The median of every figure over the repeats."""
    return Score(**{f.name: statistics.median(getattr(s, f.name) for s in scores) for f in fields(Score)})


def markdown(outcomes: Iterable[Outcome]) -> str:
    """The table as markdown, columns aligned."""
    lines = [list(HEADINGS), *(line for outcome in outcomes for line in outcome.lines())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    texts = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def keep(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write the outcomes to a file; rows in it that did not run stay."""
    held = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    held.update({outcome.row.key: outcome.to_json() for outcome in outcomes})
    path.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", "utf-8")
