"""Answers to lists of VNN-LIB questions as a CSV file that only grows, so that a run killed at any moment goes on."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from withstand.core.errors import InputError
from withstand.io.instances import Instance


@dataclass(frozen=True)
class Result:
    """The answer to one question, its files as the list of instances writes them.

    result: sat, unsat, timeout, unknown, or error where the question could not be asked or its process died. seconds:
    wall time. cpu_seconds: of all threads. domains: parts of the input or of the phases that were bounded. bound: the
    best lower bound on the margin. certificate: the file of the stored proof or witness, if any.
    """

    onnx: str
    vnnlib: str
    result: str
    seconds: float
    cpu_seconds: float
    domains: int
    bound: float
    certificate: str = ""


COLUMNS = tuple(field.name for field in fields(Result))
_HEADER = ",".join(COLUMNS)


class ResultsFile:
    """A results file open for writing; one process at a time may hold it.

    `results` are those found in it; a last line that a kill has torn is cut off. Raises InputError when the file cannot
    be written, is another run's at the moment, or holds anything but results.
    """

    def __init__(self, path: str | Path) -> None:
        import fcntl

        self.path = Path(path)
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise InputError(f"The results file {self.path} cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.results = self._mend()
        except OSError:
            self.close()
            raise InputError(f"Another run is writing to {self.path}; wait for it, or choose another file.") from None
        except InputError:
            self.close()
            raise

    def append(self, result: Result) -> None:
        """Add a line; when this returns it is on the disk."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(astuple(result))
        self._write(text.getvalue())

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def _write(self, line: str) -> None:
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _mend(self) -> list[Result]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and not f"{_HEADER}\n".encode().startswith(content):
            raise InputError(f"{self.path} is no results file; choose another name for the results.")
        results = _parse(whole, self.path) if whole else []
        self._file.truncate(len(whole))
        if not whole:
            self._write(_HEADER + "\n")
        return results


def read_results(path: str | Path) -> list[Result]:
    """The whole lines of a results file. Raises InputError when it cannot be read or holds anything else."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"The results file {str(path)!r} cannot be read ({error.strerror}).") from None
    return _parse(content[: content.rfind(b"\n") + 1], Path(path))


def match(instances: Iterable[Instance], results: Iterable[Result]) -> list[Result | None]:
    """For every instance the result of its files, or None; instances named twice need two results."""
    held: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        held.setdefault((result.onnx, result.vnnlib), []).append(result)
    used = Counter[tuple[str, str]]()
    found: list[Result | None] = []
    for one in instances:
        key = (one.onnx, one.vnnlib)
        own = held.get(key, [])
        found.append(own[used[key]] if used[key] < len(own) else None)
        used[key] += 1
    return found


def _parse(content: bytes, path: Path) -> list[Result]:
    lines = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise InputError(f"{path} is no results file, which begins with {_HEADER}; choose another.")
    results = []
    for number, cells in enumerate(lines[1:], 2):
        try:
            onnx, vnnlib, word, seconds, cpu, domains, bound, certificate = cells
            results.append(
                Result(onnx, vnnlib, word, float(seconds), float(cpu), int(domains), float(bound), certificate)
            )
        except ValueError:
            raise InputError(f"{path}, line {number} is no result; remove that line.") from None
    return results
