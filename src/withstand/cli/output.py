"""What the verbs print: results on stdout, progress on stderr."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import typer


def print_json(value: Any) -> None:
    """One line of strict JSON on stdout: numbers that JSON does not know (NaN, infinities) become null."""
    typer.echo(json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@contextlib.contextmanager
def only_results_on_stdout() -> Iterator[None]:
    """While it holds, whatever the libraries and the user's model print goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout: drawn on a terminal, aligned columns otherwise. Numbers stand to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if sys.stdout.isatty():
        _draw(columns, texts, right)
        return
    widths = [max(len(line[i]) for line in [list(columns), *texts]) for i in range(len(columns))]
    for line in [list(columns), *texts]:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _draw(columns: Sequence[str], texts: list[list[str]], right: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name, number in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if number else "left")
    for line in texts:
        table.add_row(*map(Text, line))
    Console().print(table)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def percent(share: float) -> str:
    """A share as a percentage with two decimals.

    >>> percent(0.9562)
    '95.62 %'
    """
    return f"{100 * share:.2f} %"
