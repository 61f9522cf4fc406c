"""A run in words that need no training: the threat, the classes, what to do next, and one meaning for one colour."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from run_folders import make_run

from withstand.cli.results import COLOURS, VERDICTS
from withstand.core.records import Alarm, Counts
from withstand.core.threat_text import NORMS
from withstand.reporting.classes import by_class, weakest
from withstand.reporting.next_steps import next_steps
from withstand.reporting.page import report
from withstand.reporting.run import parse_ball, read_run
from withstand.reporting.threat_words import threat_in_words
from withstand.reporting.words import NBSP, headline

COUNTS = Counts(proved=20, refuted=50, unknown=20, invalid=10)
GREY, COLOUR, FLAT = (1, 8, 8), (3, 4, 4), (16,)
THREATS = [
    ("linf:0.1", GREY, "each pixel may change by at most 10 % of its range, within [0, 1]"),
    ("linf:8/255", COLOUR, "each value may change by at most 3.14 % of its range, within [0, 1]"),
    ("linf:0.2[-1,1]", FLAT, "each value may change by at most 10 % of its range, within [-1, 1]"),
    ("l2:0.5", FLAT, "one value alone by 50 % of its range, or each by 12.5 % of its range"),
    ("l1:4", FLAT, "may add up to 4, such as each by 25 % of its range"),
    ("l0:10", GREY, "at most 10 pixels may change, to any value, within [0, 1]"),
    ("l0:1", GREY, "at most 1 pixel may change"),
    ("patch:3x2", GREY, "the pixels of one rectangle of 3 by 2 anywhere may take any value"),
    ("flow:0.3", GREY, "differ by at most 0.3 of a pixel"),
    ("spatial:30,3", GREY, "turned by at most 30 degrees and shifted by at most 3 pixels each way"),
    ("flow+linf:0.1,0.05", GREY, "(flow of size 0.1), then each value by at most 5 % of its range"),
]


@pytest.mark.parametrize(("text", "shape", "words"), THREATS)
def test_a_threat_is_told_in_words(text: str, shape: tuple[int, ...], words: str) -> None:
    assert words in threat_in_words(parse_ball(text), shape)


def test_every_kind_of_threat_has_words() -> None:
    assert {text.partition(":")[0] for text, _, _ in THREATS} == set(NORMS)
    assert threat_in_words(None, FLAT) == ""


def test_the_upper_end_is_said_to_be_what_survives(tmp_path: Path) -> None:
    told = headline(read_run(make_run(tmp_path / "run", COUNTS))).replace(NBSP, " ")
    assert told.startswith("At linf 0.1, at most 40.0 % of 100 samples survive, at least 20.0 % surely do: 20 proved")
    done = read_run(make_run(tmp_path / "done", Counts(proved=3, refuted=1)))
    assert "exactly 75.0 % of 4 samples survive" in headline(done).replace(NBSP, " ")


def test_classes_are_counted_one_by_one(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", COUNTS))
    rows = by_class(run)
    assert [row.name for row in rows] == [str(i) for i in range(10)]
    for label, row in enumerate(rows):
        status = [sample.status for sample in run.samples if sample.label == label]
        assert row.n == len(status)
        assert row.right == len(status) - status.count("invalid")
        assert row.surely == status.count("proved")
        assert row.at_most == status.count("proved") + status.count("unknown")
    assert sum(row.n for row in rows) == 100
    order = [(row.at_most or 0) / row.n for row in weakest(rows, 10)]
    assert order == sorted(order)


@pytest.mark.parametrize("property", ["band:0.5", "multi-label"])
def test_labels_that_are_no_classes_have_no_table(property: str, tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", COUNTS))
    run.record.plan.property = property
    assert by_class(run) == []


def commands(folder: Path) -> str:
    return "\n".join(f"{step.sentence} {step.command}" for step in next_steps(read_run(folder)))


def test_what_to_do_next_goes_by_what_was_found(tmp_path: Path) -> None:
    told = commands(make_run(tmp_path / "run", COUNTS, alarms=[Alarm(name="zero gradients", sentence="Zero.")]))
    for word in ("20 samples are open", "--budget 1200s", "withstand masking digits-cnn", "withstand harden", "check "):
        assert word in told
    told = commands(make_run(tmp_path / "good", Counts(proved=9)))
    assert re.findall(r"withstand (\w+) ", told) == ["check"]
    told = commands(make_run(tmp_path / "part", COUNTS, state="partial"))
    assert told.startswith("Go on with the samples that are left. withstand audit digits-cnn")
    assert told.count("\n") == 0


def test_the_page_tells_threat_classes_and_steps(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", COUNTS)).read_text(encoding="utf-8")
    for part in ("each pixel may change by at most 10 % of its range", 'id="classes"', 'id="next"', "survive at most"):
        assert part in page


def test_one_colour_has_one_meaning() -> None:
    """The page's colour of what is refuted colours nothing else; on the terminal verdicts have colours of their own."""
    css = files("withstand.reporting").joinpath("templates", "page.css").read_text(encoding="utf-8")
    users = [line.split("{")[0].strip() for line in css.splitlines() if "var(--vermillion)" in line]
    assert users
    assert all(".refuted" in user for user in users), users
    assert set(COLOURS.values()).isdisjoint(VERDICTS.values())
    assert len(set(VERDICTS.values())) == 4
