"""Lists of VNN-LIB questions in the form of VNN-COMP: `onnx,vnnlib[,timeout_s[,known_verdict]]`."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from withstand.core.errors import InputError

COLUMNS = ("onnx", "vnnlib", "timeout_s", "known_verdict")
"""The columns of a list without a header, and the names of those in a header."""

WORDS = {"sat": "sat", "violated": "sat", "unsat": "unsat", "holds": "unsat"}
"""How competitions have written the two verdicts."""

UNDECIDED = frozenset({"", "-", "?", "unknown", "timeout", "error"})
"""How they have written that there is none."""


@dataclass(frozen=True)
class Instance:
    """One question: files as written, relative to `folder`. timeout in seconds; known: sat, unsat or None."""

    onnx: str
    vnnlib: str
    folder: Path
    timeout: float | None = None
    known: str | None = None

    @property
    def network(self) -> Path:
        """The file of the network."""
        return self.folder / self.onnx

    @property
    def question(self) -> Path:
        """The file of the question."""
        return self.folder / self.vnnlib

    @property
    def name(self) -> str:
        """Both files without folders and endings, for people."""
        return f"{Path(self.onnx).stem} {Path(self.vnnlib).stem}"


def read_instances(path: str | Path) -> list[Instance]:
    """The questions of a CSV file, with or without a header; with one, columns may stand in any order.

    Raises InputError with the line when a name is missing, a time limit is no positive number, or a verdict no word of
    VNN-COMP.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, [cell.strip() for cell in line]) for number, line in enumerate(csv.reader(file), 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The list of instances {str(path)!r} cannot be read ({error}); check the path.") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    columns = COLUMNS
    if lines and {"onnx", "vnnlib"} <= {cell.lower() for cell in lines[0][1]}:
        columns = tuple(cell.lower() for cell in lines.pop(0)[1])
    if not lines:
        raise InputError(f"The list of instances {str(path)!r} is empty; write a line onnx,vnnlib[,timeout_s] each.")
    return [_instance(dict(zip(columns, cells)), path, number) for number, cells in lines]


def write_instances(path: str | Path, instances: Iterable[Instance]) -> None:
    """A list with a header that `read_instances` reads back."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in instances:
            limit = "" if one.timeout is None else f"{one.timeout:g}"
            writer.writerow((one.onnx, one.vnnlib, limit, one.known or "unknown"))


def _instance(cells: dict[str, str], path: Path, number: int) -> Instance:
    onnx, vnnlib, limit = (cells.get(name, "") for name in COLUMNS[:3])
    if not onnx or not vnnlib:
        raise InputError(f"{path}, line {number}: name a network and a question, as in net.onnx,prop.vnnlib,60.")
    try:
        timeout = float(limit) if limit else None
    except ValueError:
        timeout = math.nan
    if timeout is not None and not 0 < timeout < math.inf:
        raise InputError(f"{path}, line {number}: the time limit {limit!r} is no positive number; write seconds.")
    known = cells.get("known_verdict", "").lower()
    if known not in WORDS and known not in UNDECIDED:
        raise InputError(
            f"{path}, line {number}: the known verdict {known!r} is no verdict; write sat, unsat or unknown."
        )
    return Instance(onnx, vnnlib, path.parent, timeout, WORDS.get(known))
