"""The run folder of a training: its record beside the weights, the epochs' records and two audits."""

from collections.abc import Iterator
from pathlib import Path

from withstand.auditing.folder import Folder
from withstand.core.errors import InputError
from withstand.core.harden_records import HardenRecord
from withstand.core.run_files import read_harden_record

FIXED = ("model", "data", "threat", "objective", "seed", "limit")
"""What a training that goes on must share with the one that its folder holds, beside the recipe."""


class HardenFolder(Folder):
    """A training run on disk."""

    @property
    def run_file(self) -> Path:
        """The file of the run's record."""
        return self.path / "run.json"

    def write_run(self, record: HardenRecord) -> None:
        """Replace the run's record at once and for good."""
        self.write_text("run.json", record.model_dump_json(indent=1))

    def agree(self, asked: HardenRecord, resume: bool) -> HardenRecord:
        """The record to go on with: the one the folder holds, or the new one where it holds none.

        Raises InputError when it holds another training, or one that was not asked to go on.
        """
        if not self.run_file.is_file():
            return asked
        held = read_harden_record(self.run_file)
        if not resume:
            raise InputError(
                f"{self.path} holds a training already; go on with it by --resume, or choose another folder with --out."
            )
        for name, theirs, ours in _settings(held, asked):
            if theirs != ours:
                raise InputError(
                    f"{self.path} holds a training with another {name} ({_short(theirs)}, not {_short(ours)}); choose "
                    "another folder with --out."
                )
        for name in ("model_digest", "data_digest"):
            if held.origin and asked.origin and getattr(held.origin, name) != getattr(asked.origin, name):
                what = name.partition("_")[0]
                raise InputError(
                    f"{self.path} holds a training on another {what} of the same name; choose another folder with "
                    "--out."
                )
        return held


def _settings(held: HardenRecord, asked: HardenRecord) -> Iterator[tuple[str, object, object]]:
    """Name, value held and value asked for of all that must be the same; a recipe's settings one by one."""
    for name in FIXED:
        yield name, getattr(held, name), getattr(asked, name)
    for name in sorted({*held.recipe, *asked.recipe}):
        yield name, held.recipe.get(name), asked.recipe.get(name)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
