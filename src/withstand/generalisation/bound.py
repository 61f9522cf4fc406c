"""What the theory's functions return: a bound on an error rate that says when it is vacuous, and a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

VACUOUS = 0.9995
"""From here on a bound is called vacuous."""


@dataclass(frozen=True)
class Bound:
    """An upper bound on an error rate.

    name: whose bound. value: the error rate is at most this, with probability at least 1 - `delta` over the draw of the
    training sample (and over the tool's own random draws, where `delta` pays for them).
    """

    name: str
    value: float
    delta: float

    @property
    def vacuous(self) -> bool:
        """Whether it says nothing: every error rate is at most 1, and what rounds to 1.000 tells no more."""
        return self.value >= VACUOUS

    def __str__(self) -> str:
        told = "vacuous" if self.vacuous else f"with probability {1 - self.delta:g}"
        return f"{self.name}: at most {self.value:.4g} ({told})"

    def to_json(self) -> dict[str, Any]:
        """The bound as JSON values."""
        return {"name": self.name, "value": self.value, "delta": self.delta, "vacuous": self.vacuous}


@dataclass(frozen=True)
class Table:
    """The outcome of an experiment in closed form. rows: one value a column. notes: what the columns mean."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """The table as JSON values: a row is an object from column to value."""
        rows: list[dict[str, Any]] = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], notes: Sequence[str] = ()) -> Table:
    """A table from any sequences."""
    return Table(title, tuple(columns), tuple(map(tuple, rows)), tuple(notes))
