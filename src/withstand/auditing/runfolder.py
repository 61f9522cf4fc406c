"""The run folder: written so that a run killed at any moment loses no finished sample.

`run.json` is replaced whole, `samples.jsonl` only grows, a witness is written before the line that names it, and one
process at a time may write.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

from withstand.core.errors import InputError
from withstand.core.records import RunRecord, SampleRecord, Summary
from withstand.core.run_files import read_run_record, read_sample_records, replacing
from withstand.io.witness import Witness

HOME = Path("runs")
"""Where run folders go unless the user says otherwise."""


def default_folder(model: str, data: str, threat: str, seed: int) -> Path:
    """`runs/<model>-<data>-<threat>-<seed>`: the same command finds its run again."""
    parts = (Path(model.split("?")[0]).name.removesuffix(".onnx"), Path(data.split("[")[0]).stem, threat, str(seed))
    return HOME / "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_") or "x" for part in parts)


class RunFolder:
    """One run on disk. Opening it for writing takes a lock that ends with the process."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None

    @property
    def run_file(self) -> Path:
        """The file of the run's record."""
        return self.path / "run.json"

    @property
    def samples_file(self) -> Path:
        """The file of the samples' records."""
        return self.path / "samples.jsonl"

    def open(self) -> None:
        """Make the folder and lock it. Raises InputError when it cannot be written or another run writes to it."""
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise InputError(
                f"The folder {self.path} cannot be written ({error.strerror}); choose another with --out."
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InputError(
                f"Another run is writing to {self.path}; wait for it, or choose another folder with --out."
            ) from None

    def close(self) -> None:
        """Give up the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_run(self) -> RunRecord | None:
        """The run's record, or None where no run has begun. Raises InputError when it cannot be read."""
        if not self.run_file.is_file():
            return None
        return read_run_record(self.run_file)

    def write_run(self, record: RunRecord) -> None:
        """Replace the run's record at once and for good."""
        self.write_text("run.json", record.model_dump_json(indent=1))

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder so that a reader sees the old text or the new one."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file of the folder so that a reader sees the old content or the new one."""
        with replacing(self.path / name) as file:
            file.write(content)

    def read_samples(self) -> list[SampleRecord]:
        """Every finished sample. A last line torn by a kill is no record; a broken line elsewhere is an InputError."""
        return read_sample_records(self.samples_file)

    def mend(self) -> None:
        """Cut off a last line that a kill has torn, so that the next line starts at the margin."""
        if not self.samples_file.is_file():
            return
        content = self.samples_file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with self.samples_file.open("r+b") as file:
                file.truncate(len(whole))

    def append(self, records: Iterable[SampleRecord]) -> None:
        """Add finished samples; when this returns they are on the disk."""
        with self.samples_file.open("a", encoding="utf-8") as file:
            file.write("".join(record.model_dump_json() + "\n" for record in records))
            file.flush()
            os.fsync(file.fileno())

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
