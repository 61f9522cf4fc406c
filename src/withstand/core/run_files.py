"""Reading the files of records in a run folder: one that is a whole record, and one that grows by lines."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from withstand.core.errors import InputError
from withstand.core.records import VERSION, RunRecord, SampleRecord
from withstand.core.smoothing_records import SmoothedSample, SmoothingRecord

Whole = TypeVar("Whole", RunRecord, SmoothingRecord)
Line = TypeVar("Line", SampleRecord, SmoothedSample)


def read_run_record(path: Path) -> RunRecord:
    """The record in a run.json. Raises InputError when it is missing, of another version or unreadable."""
    return read_whole(path, RunRecord, "audit")


def read_sample_records(path: Path) -> list[SampleRecord]:
    """The records in a samples.jsonl by sample. See `read_lines`."""
    return read_lines(path, SampleRecord, "audit")


def read_whole(path: Path, form: type[Whole], verb: str) -> Whole:
    """The record that a file holds, as the verb wrote it.

    Raises InputError when it is missing, of another version or unreadable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path.parent} holds no {path.name}; give the folder that `withstand {verb}` wrote."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a run folder that you may read.") from None
    try:
        version = json.loads(text).get("version")
    except (json.JSONDecodeError, AttributeError):
        raise InputError(f"{path} is not a run record; give the folder that `withstand {verb}` wrote.") from None
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


def read_lines(path: Path, form: type[Line], verb: str) -> list[Line]:
    """The records in a file that grows by lines, by sample; of several lines about one sample the last counts.

    A torn last line, left by a killed run, is passed over, and a file that is not there holds none.
    Raises InputError when the file cannot be read or a line in the middle is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a run folder that you may read.") from None
    found: dict[int, Line] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            sample = form.model_validate_json(line)
        except ValidationError:
            if number == len(lines):
                break
            raise InputError(f"Line {number} of {path} is damaged; remove it and the next {verb} redoes it.") from None
        found[sample.id] = sample
    return [found[key] for key in sorted(found)]
