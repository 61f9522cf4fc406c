"""Progress, tables and JSON as they are printed."""

import io
import json
import re

import pytest

from withstand.auditing.progress import Progress
from withstand.cli.output import print_json, print_table
from withstand.cli.progress import PlainLines, _table, progress
from withstand.core.records import Counts


def event(stage: str, done: int) -> Progress:
    return Progress(stage, done, 8, Counts(proved=done), 2.0)


def test_plain_progress_has_one_line_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    tell = PlainLines()
    for stage, done in (("doctor", 0), ("pgd", 0), ("settled", 4), ("pgd", 4), ("settled", 8), ("done", 8)):
        tell(event(stage, done))
    captured = capsys.readouterr()
    assert captured.out == ""
    shares = [line[:5] for line in captured.err.splitlines()]
    assert shares == ["docto", " 50 %", "100 %"]


def test_progress_is_plain_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as tell:
        tell(event("settled", 2))
    assert "25 % of 8 samples in 2 s: 2 proved" in capsys.readouterr().err


def test_the_live_table_shows_stage_and_counts_on_one_line() -> None:
    from rich.console import Console

    page = io.StringIO()
    Console(file=page, width=100).print(_table(event("crown", 6)))
    (row,) = [line for line in page.getvalue().splitlines() if "crown" in line]
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["crown", "6/8", "75 %", "6", "0", "0", "0", "2"]


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": None})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": None}


def test_tables_without_a_terminal_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "n"), [("one", 1), ("three", 12345)])
    assert capsys.readouterr().out == "name       n\none        1\nthree  12345\n"


def test_a_drawn_table_holds_the_cells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_table(("name", "share"), [("[one]", 0.12345), ("none", None)])
    drawn = capsys.readouterr().out
    assert all(cell in drawn for cell in ("[one]", "0.1235", " - "))


RUNS = [(f"runs/a-rather-long-name-of-a-network-digits-linf_8_255-{seed}", "audit", 500, None) for seed in (1, 2)]


@pytest.mark.parametrize("drawn", [True, False])
def test_rows_stay_apart_where_the_line_is_short(
    drawn: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: drawn, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("run", "kind", "samples", "smoothed"), RUNS)
    lines = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.strip() for line in lines] == [
        RUNS[0][0],
        "kind audit, samples 500",
        RUNS[1][0],
        "kind audit, samples 500",
    ]


def test_a_line_breaks_between_cells_and_never_inside_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    names = [f"column{i}" for i in range(8)]
    print_table(names, [[f"value{i}" for i in range(8)]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert all(any(f"column{i} value{i}" in line for line in lines) for i in range(1, 8))
