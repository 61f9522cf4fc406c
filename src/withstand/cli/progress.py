"""Progress on stderr: a live table on a terminal, plain lines otherwise."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from withstand.auditing.progress import Progress

Listener = Callable[["Progress"], None]


@contextlib.contextmanager
def progress() -> Iterator[Listener]:
    """A function to tell events to, while the context lasts."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda event: live.update(_table(event))


class PlainLines:
    """One line when the doctor begins, when a share of the samples is settled, and at the end."""

    def __init__(self) -> None:
        self._shown = -1

    def __call__(self, event: "Progress") -> None:
        if event.stage == "doctor":
            print(f"doctor, then {event.total} samples", file=sys.stderr, flush=True)
            return
        percent = 100 * event.done // max(1, event.total)
        if event.stage not in ("settled", "done") or percent == self._shown:
            return
        self._shown = percent
        c = event.counts
        print(
            f"{percent:3d} % of {event.total} samples in {event.seconds:.0f} s: "
            f"{c.proved} proved, {c.refuted} refuted, {c.unknown} unknown, {c.invalid} wrong when clean",
            file=sys.stderr,
            flush=True,
        )


def _table(event: "Progress") -> "Table":
    from rich.table import Table

    table = Table("stage", "samples", "share", "proved", "refuted", "unknown", "wrong", "seconds")
    for column in table.columns:
        column.no_wrap, column.min_width = True, 8
    counts = (event.counts.proved, event.counts.refuted, event.counts.unknown, event.counts.invalid)
    share = f"{100 * event.done // max(1, event.total)} %"
    table.add_row(event.stage, f"{event.done}/{event.total}", share, *map(str, counts), f"{event.seconds:.0f}")
    return table
