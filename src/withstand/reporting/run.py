"""Reading a run folder: run.json, samples.jsonl and what the threat's text says."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pydantic import ValidationError

from withstand.core.errors import InputError
from withstand.core.records import VERSION, Counts, Interval, RunRecord, SampleRecord, Seconds, Summary

_THREAT = re.compile(
    r"(?P<norm>\w+):(?P<top>[\d.eE+-]+)(?:/(?P<bottom>[\d.eE+-]+))?"
    r"(?:\[(?P<low>[\d.eE+-]+),(?P<high>[\d.eE+-]+)\])?(?:@u8)?"
)


@dataclass(frozen=True)
class Ball:
    """What a page needs of a threat's text: norm, radius and the data domain, in the units of the data."""

    norm: str
    radius: float
    domain: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.norm} {self.radius:.4g}"


@dataclass(frozen=True)
class Run:
    """One run folder in memory. summary: None while no sample is finished. ball: None for threats without a radius."""

    folder: Path
    record: RunRecord
    samples: list[SampleRecord]
    summary: Summary | None
    ball: Ball | None

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
    record = _read_record(folder / "run.json")
    samples = _read_samples(folder / "samples.jsonl")
    held = record.summary if record.summary and record.summary.n else None
    summary = held or (_tally(samples) if samples else None)
    return Run(folder, record, samples, summary, parse_ball(record.plan.threat))


def parse_ball(text: str) -> Ball | None:
    """Norm, radius and domain (default [0, 1]) of a threat's text; None for a threat of another form."""
    found = _THREAT.fullmatch(text.strip())
    if found is None:
        return None
    try:
        radius = float(found["top"]) / float(found["bottom"] or 1)
        domain = (float(found["low"] or 0), float(found["high"] or 1))
    except (ValueError, ZeroDivisionError):
        return None
    return Ball(found["norm"], radius, domain)


def _read_record(path: Path) -> RunRecord:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path.parent} holds no run.json; give the folder that `withstand audit` wrote.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a run folder that you may read.") from None
    try:
        version = json.loads(text).get("version")
    except (json.JSONDecodeError, AttributeError):
        raise InputError(f"{path} is not a run record; give the folder that `withstand audit` wrote.") from None
    if version != VERSION:
        raise InputError(
            f"{path} has records of version {version}, and this withstand reads version {VERSION}; "
            "render it with the withstand that wrote it, or a newer one."
        )
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(f"{path} is damaged at {where!r}; restore the file or audit again.") from None


def _read_samples(path: Path) -> list[SampleRecord]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    found: dict[int, SampleRecord] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            sample = SampleRecord.model_validate_json(line)
        except ValidationError:
            if number == len(lines):
                break
            raise InputError(f"Line {number} of {path} is damaged; remove it and the next audit redoes it.") from None
        found[sample.id] = sample
    return [found[key] for key in sorted(found)]


def _tally(samples: list[SampleRecord]) -> Summary:
    """The summary of the samples finished so far, for a run that wrote none."""
    count = Counter(sample.status for sample in samples)
    counts = Counts(**count)
    n = len(samples)
    low, high = counts.proved, counts.proved + counts.unknown
    return Summary(
        n=n,
        clean_accuracy=(n - counts.invalid) / n,
        certified_accuracy=low / n,
        attacked_accuracy=high / n,
        counts=counts,
        population_interval=_clopper_pearson(low, high, n),
        seconds=Seconds(total=sum(sample.seconds for sample in samples)),
        queries=sum(sample.queries for sample in samples),
        gradients=sum(sample.gradients for sample in samples),
    )


def _clopper_pearson(low: int, high: int, n: int, confidence: float = 0.95) -> Interval:
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    bottom = float(beta.ppf(tail, low, n - low + 1)) if low else 0.0
    top = float(beta.ppf(1 - tail, high + 1, n - high)) if high < n else 1.0
    return Interval(low=bottom, high=top, confidence=confidence)
