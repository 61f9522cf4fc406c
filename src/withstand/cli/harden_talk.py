"""What `withstand harden` tells on stderr: a line an epoch, and on a terminal a bar for the steps."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from withstand.auditing.harden_talk import Talk
    from withstand.core.harden_records import EpochRecord
    from withstand.hardening.progress import Tick


@contextlib.contextmanager
def talking() -> Iterator["Talk"]:
    """Someone to tell what happens, while the context lasts."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Bars(bar)


class Lines:
    """Plain lines."""

    def say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    def step(self, tick: "Tick") -> None:
        """Nothing: only whole epochs are told."""

    def epoch(self, record: "EpochRecord") -> None:
        self.say(line(record))


class Bars(Lines):
    """Lines above a bar that fills in each epoch."""

    def __init__(self, bar: "Progress") -> None:
        self.bar = bar
        self.task = bar.add_task("", visible=False)

    def say(self, sentence: str) -> None:
        self.bar.console.print(sentence, markup=False, highlight=False)

    def step(self, tick: "Tick") -> None:
        what = f"epoch {tick.epoch}, loss {tick.loss:.3f}"
        self.bar.update(self.task, description=what, completed=tick.batch, total=tick.batches, visible=True)


def line(record: "EpochRecord") -> str:
    """An epoch in one line."""
    parts = [f"epoch {record.epoch}: loss {record.loss:.4f}"]
    shares = (
        ("clean", record.clean),
        ("FGSM", record.fgsm),
        ("PGD", record.pgd),
        ("proved", record.interval),
        ("smoothed", record.smoothed),
    )
    parts += [f"{name} {100 * share:.1f} %" for name, share in shares if share is not None]
    parts.append(f"rate {record.learning_rate:.2g}")
    parts += [] if record.radius is None else [f"radius {record.radius:.4g}"]
    return ", ".join(parts) + f" ({record.seconds:.1f} s)"
