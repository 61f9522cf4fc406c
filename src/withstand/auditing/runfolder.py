"""The run folder: written so that a run killed at any moment loses no finished sample.

`run.json` is replaced whole, `samples.jsonl` only grows, a witness is written before the line that names it, and one
process at a time may write.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from withstand.auditing.folder import Folder
from withstand.core.errors import InputError
from withstand.core.records import RunRecord, SampleRecord, Summary
from withstand.core.run_files import read_run_record, read_sample_records
from withstand.io.witness import Witness

HOME = Path("runs")
"""Where run folders go unless the user says otherwise."""


def default_folder(model: str, data: str, threat: str, seed: int) -> Path:
    """`runs/<model>-<data>-<threat>-<seed>`: the same command finds its run again."""
    parts = (Path(model.split("?")[0]).name.removesuffix(".onnx"), Path(data.split("[")[0]).stem, threat, str(seed))
    return HOME / "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_") or "x" for part in parts)


class RunFolder(Folder):
    """One run on disk."""

    @property
    def run_file(self) -> Path:
        """The file of the run's record."""
        return self.path / "run.json"

    @property
    def samples_file(self) -> Path:
        """The file of the samples' records."""
        return self.path / "samples.jsonl"

    def read_run(self) -> RunRecord | None:
        """The run's record, or None where no run has begun. Raises InputError when it cannot be read."""
        if not self.run_file.is_file():
            return None
        return read_run_record(self.run_file)

    def write_run(self, record: RunRecord) -> None:
        """Replace the run's record at once and for good."""
        self.write_text("run.json", record.model_dump_json(indent=1))

    def read_samples(self) -> list[SampleRecord]:
        """Every finished sample. A last line torn by a kill is no record; a broken line elsewhere is an InputError."""
        return read_sample_records(self.samples_file)

    def mend(self) -> None:
        """Cut off a last line that a kill has torn, so that the next line starts at the margin."""
        self.mend_lines(self.samples_file.name)

    def append(self, records: Iterable[SampleRecord]) -> None:
        """Add finished samples; when this returns they are on the disk."""
        self.append_lines(self.samples_file.name, (record.model_dump_json() for record in records))

    def save_witness(self, name: str, witness: Witness) -> None:
        """Store a witness under a name relative to the folder."""
        witness.save(self.path / name)


@dataclass(frozen=True)
class Listing:
    """One run folder in a list of runs."""

    path: str
    model: str
    data: str
    threat: str
    state: str
    began: str
    summary: Summary | None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        summary = None if self.summary is None else json.loads(self.summary.model_dump_json())
        return {**self.__dict__, "summary": summary}


def ls(folder: str | PathLike[str] = HOME) -> list[Listing]:
    """The run folders in `folder` (or the folder itself, if it is one), oldest first, with their numbers.

    Raises InputError when there is no such folder.
    """
    home = Path(folder)
    if not home.is_dir():
        raise InputError(f"There is no folder {home}; name the folder that holds your runs.")
    found = [home / "run.json"] if (home / "run.json").is_file() else sorted(home.glob("*/run.json"))
    runs = [(file.parent, read_run_record(file)) for file in found]
    return [
        Listing(
            str(path), run.plan.model, run.plan.data, run.plan.threat, run.state, run.began.isoformat(), run.summary
        )
        for path, run in sorted(runs, key=lambda pair: pair[1].began)
    ]
