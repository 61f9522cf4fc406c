"""Reading a run folder: run.json, samples.jsonl and what the threat's text says."""

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from withstand.core.records import RunRecord, SampleRecord, Seconds, Summary
from withstand.core.run_files import present_state, read_run_record, read_sample_records
from withstand.core.tally import tally

_THREAT = re.compile(
    r"(?P<norm>[\w+]+):(?:(?P<top>[\d.eE+-]+)(?:/(?P<bottom>[\d.eE+-]+))?|(?P<two>\d+x\d+|[\d.eE/+-]+,[\d.eE/+-]+))"
    r"(?:\[(?P<low>[\d.eE+-]+),(?P<high>[\d.eE+-]+)\])?(?:@u8)?"
)


@dataclass(frozen=True)
class Ball:
    """What a page needs of a threat's text: norm, radius and the data domain, in the units of the data.

    two: the size of threats of two numbers, as patch:5x5; their radius is a factor on it and is 1.
    """

    norm: str
    radius: float
    domain: tuple[float, float]
    two: str = ""

    def __str__(self) -> str:
        return f"{self.norm} {self.two or format(self.radius, '.4g')}"

    @property
    def unit(self) -> str:
        """What the radius is measured in."""
        return f"in sizes of {self}" if self.two else self.norm


@dataclass(frozen=True)
class Run:
    """One run folder in memory. summary: None while no sample is finished. ball: None for threats without a radius.
    state: of the record, or "interrupted" where nothing goes on with what it tells."""

    folder: Path
    record: RunRecord
    samples: list[SampleRecord]
    summary: Summary | None
    ball: Ball | None
    state: str = "complete"

    @property
    def threat(self) -> str:
        """The threat in words, for sentences."""
        return str(self.ball) if self.ball else self.record.plan.threat

    def label(self, value: float | None) -> str:
        """The name of a class where the run knows one, else its number; a number as it is for other properties."""
        if value is None:
            return ""
        names = self.record.classes
        if names and float(value).is_integer() and 0 <= value < len(names):
            return names[int(value)]
        return f"{value:.6g}"


def read_run(folder: str | PathLike[str]) -> Run:
    """The run in a folder.

    A torn last line of samples.jsonl, left by a killed run, is passed over; the last line about a sample counts.
    Raises InputError when run.json is missing, of another version or unreadable, or when a line in the middle is.
    """
    folder = Path(folder)
    record = read_run_record(folder / "run.json")
    samples = read_sample_records(folder / "samples.jsonl")
    held = record.summary if record.summary and record.summary.n else None
    summary = held or (tally(samples, Seconds(total=sum(s.seconds for s in samples))) if samples else None)
    state = present_state(folder, record.state, record.ended_by)
    return Run(folder, record, samples, summary, parse_ball(record.plan.threat), state)


def parse_ball(text: str) -> Ball | None:
    """Norm, radius and domain (default [0, 1]) of a threat's text; None for a threat of another form."""
    found = _THREAT.fullmatch(text.strip())
    if found is None:
        return None
    try:
        radius = float(found["top"] or 1) / float(found["bottom"] or 1)
        domain = (float(found["low"] or 0), float(found["high"] or 1))
    except (ValueError, ZeroDivisionError):
        return None
    return Ball(found["norm"], radius, domain, found["two"] or "")
