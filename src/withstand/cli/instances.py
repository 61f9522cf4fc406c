"""`withstand verify --instances`: a list of VNN-LIB questions, with a line of progress, a table and totals."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from withstand.cli.output import print_json, print_table
from withstand.cli.vnnlib import SECONDS
from withstand.core.errors import ToolFault

if TYPE_CHECKING:
    from withstand.io.instances import Instance
    from withstand.io.results import Result
    from withstand.verification.instances import Outcome
    from withstand.verification.score import Score

COLUMNS = ("network", "question", "result", "known", "seconds", "CPU", "domains", "bound")


def answer_list(
    path: Path,
    timeout: float | None,
    results: Path | None,
    workers: int,
    certificates: Path | None,
    double: bool,
    json: bool,
) -> None:
    """Answer the instances of a list that have no result yet, and print all of them with their totals.

    Raises ToolFault at the end when a verdict contradicts the known one, or an answer failed by withstand's fault.
    """
    from withstand.io.instances import read_instances
    from withstand.io.results import ResultsFile, match
    from withstand.verification.instances import answer_all

    listed = read_instances(path)
    instances = [replace(one, timeout=(one.timeout or SECONDS) if timeout is None else timeout) for one in listed]
    file = None if results is None else ResultsFile(results)
    faults = 0
    with contextlib.closing(file) if file else contextlib.nullcontext():
        found = match(instances, file.results if file else [])
        left = [i for i, result in enumerate(found) if result is None]
        with _progress(len(instances), [r for r in found if r]) as progress:
            asked = [instances[i] for i in left]
            how = {"jobs": workers, "certificates": certificates, "double": double}
            for number, outcome in answer_all(asked, **how, begun=progress.begin):
                found[left[number]] = outcome.result
                faults += outcome.fault
                if file is not None:
                    file.append(outcome.result)
                progress.end(outcome)
    print_answers(instances, [result for result in found if result], json)
    if faults:
        raise ToolFault(f"{faults} of {len(instances)} instances failed by a fault of withstand; it is told above.")


def print_answers(instances: "list[Instance]", results: "list[Result]", json: bool) -> None:
    """A row for every instance and the totals. Raises ToolFault when a verdict contradicts the known one."""
    from withstand.verification.score import is_wrong, score

    pairs = list(zip(instances, results, strict=True))
    total = score(pairs)
    if json:
        rows = [{**asdict(result), "known": one.known} for one, result in pairs]
        print_json({"instances": rows, "totals": asdict(total)})
    else:
        print_table(COLUMNS, [_row(one, result) for one, result in pairs])
        typer.echo("")
        typer.echo(totals(total))
    if total.wrong:
        named = "; ".join(f"{one.name} is known to be {one.known}" for one, r in pairs if is_wrong(one, r))
        raise ToolFault(f"{total.wrong} verdicts contradict the known ones: {named}.")


def totals(total: "Score") -> str:
    """The totals in a sentence or two."""
    words = ", ".join(f"{number} {word}" for word, number in total.words.items())
    return (
        f"{total.solved} of {total.count} solved ({words}), {total.wrong} wrong; {total.seconds:.1f} s, "
        f"CPU {total.cpu_seconds:.1f} s; PAR-2 {total.par2:.2f} s."
    )


def _row(one: "Instance", result: "Result") -> tuple[object, ...]:
    from withstand.verification.score import is_wrong

    known = f"{one.known} (!)" if is_wrong(one, result) else one.known
    files = (Path(one.onnx).stem, Path(one.vnnlib).stem)
    return (*files, result.result, known, result.seconds, result.cpu_seconds, result.domains, result.bound)


class _Lines:
    """Progress as a line on stderr for every answer."""

    def __init__(self, count: int, done: "list[Result]") -> None:
        self.count, self.results = count, list(done)
        self.running: dict[int, tuple[Instance, float]] = {}
        if done:
            print(f"{len(done)} of {count} instances have results already", file=sys.stderr, flush=True)

    def begin(self, instance: "Instance") -> None:
        self.running[id(instance)] = (instance, time.monotonic())

    def end(self, outcome: "Outcome") -> None:
        self.running.pop(id(outcome.instance), None)
        self.results.append(outcome.result)
        self.say(outcome)

    def say(self, outcome: "Outcome") -> None:
        told, reason = outcome.result, f": {outcome.reason}" if outcome.reason else ""
        line = f"{len(self.results)}/{self.count}  {outcome.instance.name}  {told.result}  {told.seconds:.2f} s{reason}"
        print(line, file=sys.stderr, flush=True)


class _LiveLine(_Lines):
    """Progress as one line that changes, and lines of errors above it."""

    def __init__(self, count: int, done: "list[Result]", write: Callable[[str], None]) -> None:
        super().__init__(count, done)
        self.write = write

    def say(self, outcome: "Outcome") -> None:
        if outcome.result.result == "error":
            self.write(f"{outcome.instance.name}: {outcome.reason}")

    def __rich__(self) -> str:
        words = [result.result for result in self.results]
        told = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words)) or "no answer yet"
        now = time.monotonic()
        running = ", ".join(f"{one.name} {now - since:.0f} s" for one, since in list(self.running.values()))
        return f"{len(words)}/{self.count}: {told}   {running}"


@contextlib.contextmanager
def _progress(count: int, done: "list[Result]") -> Iterator[_Lines]:
    if not sys.stderr.isatty():
        yield _Lines(count, done)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, markup=False, highlight=False)
    line = _LiveLine(count, done, console.print)
    with Live(line, console=console, refresh_per_second=4, transient=True):
        yield line
