"""Radii of samples as a file that only grows; the last line of a sample counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from withstand.core.errors import InputError
from withstand.io.growing import GrowingFile

UNFINISHED = "the search had not ended"
"""The reason in a line that a later one is meant to replace."""


@dataclass(frozen=True)
class SampleRadii:
    """How far one sample holds.

    id: its number in the data. proved: the largest radius within which the property is proved, 0 where none is.
    refuted: the distance of the nearest witness, inf where there is none within the largest radius asked about. Both
    are NaN for a sample that is wrong when clean. status: `met` (the ends are as close as asked), `proved` (at the
    largest radius), `open` or `invalid`. proved_by, refuted_by: methods. seconds: wall time, its share where samples
    were worked on together. reason: what stopped the search of an open sample. question: a digest of all that the
    radii depend on.
    """

    id: int
    proved: float
    refuted: float
    status: str
    seconds: float
    proved_by: str
    refuted_by: str
    reason: str
    question: str


class RadiiFile(GrowingFile[SampleRadii]):
    """A file of radii open for writing; see `GrowingFile`.

    questions: the digest of each sample's question, by its number. over: reasons of open samples that are to be asked
    again. `ended` are those that are not. Raises InputError when a sample has radii of another question.
    """

    def __init__(self, path: str | PathLike[str], questions: Mapping[int, str], over: Iterable[str]) -> None:
        super().__init__(Path(path), SampleRadii, "result")
        if any(row.question != questions.get(row.id, row.question) for row in self.found):
            self.close()
            raise InputError(
                f"{path} holds radii of another question: model, data, threat, property, method or tolerance differ; "
                "choose another file."
            )
        last = {row.id: row for row in self.found if row.id in questions}
        again = {UNFINISHED, *over}
        self.ended = {id: row for id, row in last.items() if row.status != "open" or row.reason not in again}
