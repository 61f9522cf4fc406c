"""Rounding, envelopes and pictures against what they must show."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from run_folders import make_run

from withstand.core.records import Counts
from withstand.reporting.figures import envelope, measured
from withstand.reporting.pictures import Picture, difference, is_picture, largest_changes, picture
from withstand.reporting.run import read_run
from withstand.reporting.words import command, duration, number, percent


def pixels(shown: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.src.split(",")[1]))))


@given(k=st.integers(0, 5000), more=st.integers(0, 5000))
def test_rounding_never_narrows_the_range(k: int, more: int) -> None:
    n = max(1, k + more)
    low, high = (float(percent(k / n, n, end)[:-2]) / 100 for end in ("low", "high"))
    assert low <= k / n + 1e-12
    assert high >= k / n - 1e-12
    assert high - low <= 0.0011


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (3, "3"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (float("inf"), "∞"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (150, "2 min 30 s"), (7260, "2 h 1 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_command_quotes_what_a_shell_would_read(tmp_path: Path) -> None:
    plan = read_run(make_run(tmp_path / "run", Counts(proved=1), model="my model.onnx")).record.plan
    line = command(plan.model_copy(update={"property": "not-class:3"}))
    assert line == (
        "withstand audit 'my model.onnx' --data digits --threat linf:0.1 --property not-class:3 --limit 1 "
        "--seed 7 --budget 600s"
    )


def test_the_curve_begins_at_the_clean_accuracy_and_holds_the_audited_radius(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", Counts(proved=6, refuted=2, unknown=1, invalid=1)))
    points = measured(run)
    assert [p.radius for p in points] == [0, 0.025, 0.05, 0.1, 0.15]
    assert points[0].certified == points[0].attacked == 0.9
    bare = run.record.model_copy(update={"curve": []})
    alone = measured(type(run)(run.folder, bare, run.samples, run.summary, run.ball))
    assert [(p.radius, p.certified, p.attacked) for p in alone] == [(0, 0.9, 0.9), (0.1, 0.6, pytest.approx(0.7))]


def test_the_envelope_is_svg_of_the_page(tmp_path: Path) -> None:
    drawn = envelope(read_run(make_run(tmp_path / "run", Counts(proved=6, refuted=2, unknown=1, invalid=1))))
    assert drawn is not None
    assert drawn.svg.startswith("<svg viewBox=")
    assert ">audited: 0.1</text>" in drawn.svg
    assert "currentColor" in drawn.svg
    assert "//" not in drawn.svg


def test_grey_and_colour_pictures_show_the_values() -> None:
    grey = np.array([[[0, 0.5], [1, 2]]])
    assert pixels(picture(grey, (0, 1), "")).tolist() == [[0, 128], [255, 255]]
    assert pixels(picture(grey[0], (0, 2), "")).tolist() == [[0, 64], [128, 255]]
    colour = np.stack([np.full((4, 4), v) for v in (-1.0, 0.0, 1.0)])
    assert pixels(picture(colour, (-1, 1), ""))[0, 0].tolist() == [0, 128, 255]


def test_the_difference_is_orange_up_blue_down_white_for_none() -> None:
    clean = np.full((1, 1, 3), 0.5)
    shown, full = difference(clean, clean + np.array([0.1, -0.1, 0]), "")
    assert full == pytest.approx(0.1)
    assert pixels(shown)[0].tolist() == [[213, 94, 0], [0, 114, 178], [255, 255, 255]]
    same, full = difference(clean, clean, "")
    assert full == 1
    assert (pixels(same) == 255).all()


def test_large_pictures_are_reduced() -> None:
    assert pixels(picture(np.zeros((3, 300, 150)), (0, 1), "")).shape == (128, 64, 3)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [((1, 8, 8), True), ((3, 32, 32), True), ((28, 28), True), ((5,), False), ((2, 8, 8), False), ((1, 1, 8), False)],
)
def test_which_inputs_are_pictures(shape: tuple[int, ...], shown: bool) -> None:
    assert is_picture(shape) is shown


def test_the_largest_changes_come_first() -> None:
    changes = largest_changes(np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.0, 1.0]), count=2)
    assert [(c.index, c.change, c.share) for c in changes] == [("2", -1.0, 1.0), ("0", 0.5, 0.5)]
