"""The page of a run of randomised smoothing: its numbers are the records', in words and a colour of their own."""

import json
import re
from pathlib import Path

import pytest
from run_folders import origin

from withstand.core.errors import InputError
from withstand.core.smoothing_records import SmoothedSample, SmoothingPlan, SmoothingRecord
from withstand.reporting.page import report
from withstand.reporting.smoothed import read_smoothed

HOSTILE = "</script><script>alert(1)</script>{{ 7*7 }}"


def sample(id: int, answer: int | None, radius: float) -> SmoothedSample:
    counts = {3: 900, 5: 100}
    return SmoothedSample(id=id, label=3, base=3, answer=answer, counts=counts, guess=3, bound=0.8, radius=radius)


def make_run(folder: Path, state: str = "complete", alpha: float = 0.001, **plan: object) -> Path:
    """Five samples: three right, at radii .1, .2 and .4, one wrong and one that abstains."""
    folder.mkdir()
    settings = {"model": "net", "data": "digits", "sigma": 0.25, "draws": 1000, "first_draws": 100, **plan}
    record = SmoothingRecord(
        plan=SmoothingPlan(alpha=alpha, **settings),  # type: ignore[arg-type]
        origin=origin(),
        state=state,  # type: ignore[arg-type]
        samples=5,
        cap=0.6158,
        input_shape=[1, 8, 8],
    )
    (folder / "smooth.json").write_text(record.model_dump_json(), "utf-8")
    samples = [sample(0, 3, 0.1), sample(1, 3, 0.4), sample(2, 5, 0.3), sample(3, None, 0.0), sample(4, 3, 0.2)]
    (folder / "smooth.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in samples), "utf-8")
    return folder


def test_the_numbers_follow_from_the_samples(tmp_path: Path) -> None:
    run = read_smoothed(make_run(tmp_path / "run", radii=[0.1, 0.15, 0.4]))
    assert run.summary is not None
    assert run.summary.clean_accuracy == 0.6
    assert run.summary.average_radius == pytest.approx(0.7 / 5)
    assert [point.certified for point in run.summary.curve] == [0.4, 0.4, 0.0]  # a radius holds below it, not at it
    page = report(run.folder).read_text("utf-8")
    for key, count in (("smoothed", 3), ("abstained", 1), ("wrong", 1)):
        assert f'<b id="count-{key}">{count}</b>' in page
    assert "cap: 0.6158" in page
    assert "Statistical certificate." in page
    assert "var(--purple)" in page.split("<svg", 1)[1].split("</svg>")[0]
    shown = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "proved" not in shown
    assert "var(--blue)" not in shown


def test_what_holds_for_all_together_is_said(tmp_path: Path) -> None:
    few = report(make_run(tmp_path / "few")).read_text("utf-8")
    assert "by the union bound, at least 0.995" in few
    many = report(make_run(tmp_path / "many", alpha=0.2)).read_text("utf-8")
    assert "by the union bound, not bounded" in many


def test_names_are_text_and_a_killed_run_says_so(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", "running", model=HOSTILE)).read_text("utf-8")
    assert HOSTILE not in page
    assert "49" not in page.split("<title>")[1].split("</title>")[0]
    assert "PARTIAL" in page
    assert "5 of 5 samples are settled" in page


def test_a_run_without_a_sample_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "running")
    (folder / "smooth.jsonl").unlink()
    assert "no sample is finished yet" in report(folder).read_text("utf-8")


def test_records_that_are_damaged_are_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    lines = (folder / "smooth.jsonl").read_text("utf-8").splitlines()
    (folder / "smooth.jsonl").write_text("\n".join([lines[0], "{torn", *lines[1:]]) + "\n", "utf-8")
    with pytest.raises(InputError, match="Line 2 of"):
        report(folder)
    held = json.loads((folder / "smooth.json").read_text("utf-8"))
    (folder / "smooth.json").write_text(json.dumps({**held, "version": 99}), "utf-8")
    with pytest.raises(InputError, match="records of version 99"):
        report(folder)
