"""What the verbs print: results on stdout, progress on stderr."""

import contextlib
import json
import math
import os
import shutil
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


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], colours: Sequence[int | None] | None = None
) -> None:
    """A table on stdout: drawn on a terminal, aligned columns otherwise. Numbers stand to the right.

    colours: of the first cell of each row where the table is drawn, of 256.

    Where a line is not wide enough for it (that of the terminal, or COLUMNS), every row has a paragraph of its own, so
    that no word is cut.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    lines, drawn = [list(columns), *texts], sys.stdout.isatty()
    room = shutil.get_terminal_size().columns if drawn or os.environ.get("COLUMNS", "").isdigit() else None
    if room is not None and _needs(lines, drawn) > room:
        _print_paragraphs(columns, texts, room)
        return
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if drawn:
        _draw(columns, texts, right, colours or [None] * len(texts))
        return
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _needs(lines: list[list[str]], drawn: bool) -> int:
    """Characters that a line of the table takes at least: a drawn table breaks its cells between words."""
    words = [[max(map(len, cell.split()), default=0) if drawn else len(cell) for cell in line] for line in lines]
    widths = map(max, zip(*words, strict=True))
    return sum(widths) + (3 * len(lines[0]) + 1 if drawn else 2 * (len(lines[0]) - 1))


def _print_paragraphs(columns: Sequence[str], texts: list[list[str]], room: int) -> None:
    """The first cell of each row on a line of its own; below it the others that are not empty, each with its name."""
    for first, *others in texts:
        typer.echo(typer.style(first, bold=True))
        line = " "
        for piece in (f"{name} {cell}" for name, cell in zip(columns[1:], others, strict=True) if cell != "-"):
            if line.strip() and len(line) + 3 + len(piece) > room:
                typer.echo(line + ",")
                line = " "
            line += (", " if line.strip() else " ") + piece
        typer.echo(line)


def _draw(columns: Sequence[str], texts: list[list[str]], right: list[bool], colours: Sequence[int | None]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name, number in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if number else "left")
    for (first, *others), colour in zip(texts, colours, strict=True):
        style = "" if colour is None else f"color({colour})"
        table.add_row(Text(first, style=style), *map(Text, others))
    Console().print(table)


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # nothing, or NaN
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def percent(share: float | None) -> str:
    """A share as a percentage with two decimals; in words where it is missing.

    >>> percent(0.9562)
    '95.62 %'
    >>> percent(None)
    'not measured'
    """
    if share is None:
        return "not measured"
    return f"{100 * share:.2f} %"
