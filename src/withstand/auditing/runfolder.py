"""The run folder: written so that a run killed at any moment loses no finished sample.

`run.json` is replaced whole, `samples.jsonl` only grows, a witness is written before the line that names it, and one
process at a time may write.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from withstand.auditing.folder import Folder
from withstand.core.records import RunRecord, SampleRecord
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
