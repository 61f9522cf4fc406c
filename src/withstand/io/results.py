"""Answers to lists of VNN-LIB questions as a file that only grows, so that a run killed at any moment goes on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from withstand.core.errors import InputError
from withstand.io.growing import GrowingFile, parse_rows
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


class ResultsFile(GrowingFile[Result]):
    """A results file open for writing; see `GrowingFile`."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, Result, "result")

    @property
    def results(self) -> list[Result]:
        """What was found in the file."""
        return self.found


def read_results(path: str | Path) -> list[Result]:
    """The whole lines of a results file. Raises InputError when it cannot be read or holds anything else."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"The results file {str(path)!r} cannot be read ({error.strerror}).") from None
    return parse_rows(content[: content.rfind(b"\n") + 1], Path(path), Result, "result")


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
