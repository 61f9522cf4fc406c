"""CSV files that only grow, a line as soon as it is known, so that a run killed at any moment goes on."""

import csv
import io
import os
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from withstand.core.errors import InputError

Row = TypeVar("Row")

_READ = {str: str, int: int, float: float}


class GrowingFile(Generic[Row]):
    """A file of rows open for writing; one process at a time may hold it.

    row: a dataclass of texts, whole numbers and numbers, whose fields are the columns. noun: what a row is, for
    sentences. `found` are the rows found in it; a last line that a kill has torn is cut off. Raises InputError when the
    file cannot be written, is another run's at the moment, or holds anything but such rows.
    """

    def __init__(self, path: str | Path, row: type[Row], noun: str) -> None:
        import fcntl

        self.path, self._row, self._noun = Path(path), row, noun
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise InputError(f"The {noun}s file {self.path} cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.found = self._mend()
        except OSError:
            self.close()
            raise InputError(f"Another run is writing to {self.path}; wait for it, or choose another file.") from None
        except InputError:
            self.close()
            raise

    def append(self, row: Row) -> None:
        """Add a line; when this returns it is on the disk."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(astuple(row))  # type: ignore[call-overload]
        self._write(text.getvalue())

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def _write(self, line: str) -> None:
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _mend(self) -> list[Row]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        header = f"{_header(self._row)}\n"
        if not whole and not header.encode().startswith(content):
            raise InputError(f"{self.path} is no {self._noun}s file; choose another name for the {self._noun}s.")
        rows = parse_rows(whole, self.path, self._row, self._noun) if whole else []
        self._file.truncate(len(whole))
        if not whole:
            self._write(header)
        return rows


def parse_rows(content: bytes, path: Path, row: type[Row], noun: str) -> list[Row]:
    """The rows in the whole lines `content` of a file. Raises InputError, which names the line, where one is none."""
    lines = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")))
    if not lines or ",".join(lines[0]) != _header(row):
        raise InputError(f"{path} is no {noun}s file, which begins with {_header(row)}; choose another.")
    readers = [_READ[field.type] for field in fields(row)]  # type: ignore[arg-type,index]
    rows = []
    for number, cells in enumerate(lines[1:], 2):
        try:
            rows.append(row(*(read(cell) for read, cell in zip(readers, cells, strict=True))))
        except ValueError:
            raise InputError(f"{path}, line {number} is no {noun}; remove that line.") from None
    return rows


def _header(row: Any) -> str:
    return ",".join(field.name for field in fields(row))
