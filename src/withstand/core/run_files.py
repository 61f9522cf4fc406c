"""Reading the files of records in a run folder: one that is a whole record, and one that grows by lines; and replacing
any file at once."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from withstand.core.errors import InputError
from withstand.core.harden_records import EpochRecord, HardenRecord
from withstand.core.records import VERSION, Record, RunRecord, SampleRecord

R = TypeVar("R", bound=Record)

LOCK = ".lock"
"""The file that the process which writes a run folder has locked."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when it is whole and on the disk: readers, and a process killed at
    any moment, leave the old content or the new one. Its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def is_written(folder: Path) -> bool:
    """Whether a process holds the lock of a run folder, so that its run is still going on."""
    import fcntl

    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def present_state(folder: Path, state: str, ended_by: str | None = None) -> str:
    """The state of a run now, from the one its record holds: "interrupted" where the record says that it runs and
    nothing does, or that an interrupt ended it."""
    if state == "running" and not is_written(folder):
        return "interrupted"
    return "interrupted" if state == "partial" and ended_by != "time" else state


def read_run_record(path: Path) -> RunRecord:
    """The record in the run.json of an audit or an attack. See `read_whole`."""
    return read_whole(path, RunRecord, "audit")


def read_harden_record(path: Path) -> HardenRecord:
    """The record in the run.json of a training run. See `read_whole`."""
    return read_whole(path, HardenRecord, "harden")


def read_sample_records(path: Path) -> list[SampleRecord]:
    """The records in a samples.jsonl by sample. See `read_lines`."""
    return read_lines(path, SampleRecord, "id", "the next audit redoes it")


def read_epoch_records(path: Path) -> list[EpochRecord]:
    """The records in an epochs.jsonl by epoch. See `read_lines`."""
    return read_lines(path, EpochRecord, "epoch", "render the rest")


def is_harden_run(path: Path) -> bool:
    """Whether a run.json is that of a training run; False also where it cannot be read."""
    try:
        held = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False
    return held is not None and held.get("kind") == "harden"


def read_whole(path: Path, form: type[R], verb: str) -> R:
    """The record that a file holds, as the verb wrote it.

    Raises InputError when it is missing, of another version or kind, or unreadable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path.parent} holds no {path.name}; give the folder that `withstand {verb}` wrote."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a run folder that you may read.") from None
    held = _parsed(text)
    if held is None:
        raise InputError(f"{path} is not a run record; give the folder that `withstand {verb}` wrote.")
    kind = form.model_fields.get("kind")
    if held.get("kind") != (None if kind is None else kind.default):
        raise InputError(f"{path} is the record of another kind of run; give the folder that `withstand {verb}` wrote.")
    version = held.get("version")
    if version != VERSION:
        raise InputError(
            f"{path} has records of version {version}, and this withstand reads version {VERSION}; "
            "render it with the withstand that wrote it, or a newer one."
        )
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(f"{path} is damaged at {where!r}; restore the file or {verb} again.") from None


def read_lines(path: Path, form: type[R], key: str, then: str) -> list[R]:
    """The records in a file that grows by lines, in the order of their field `key`; of several lines with the same one
    the last counts.

    A torn last line, left by a killed run, is passed over, and a file that is not there holds none.
    Raises InputError, which says what happens `then`, when the file cannot be read or a line in the middle is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a run folder that you may read.") from None
    found: dict[int, R] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = form.model_validate_json(line)
        except ValidationError:
            if number == len(lines):
                break
            raise InputError(f"Line {number} of {path} is damaged; remove it and {then}.") from None
        found[getattr(record, key)] = record
    return [found[key] for key in sorted(found)]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None
