"""Run folders as they are found: whole, torn, damaged, of another version, or none at all."""

import json
from pathlib import Path

import pytest
from run_folders import make_run

from withstand.core.errors import InputError
from withstand.core.records import Counts
from withstand.reporting.run import parse_ball, read_run

COUNTS = Counts(proved=5, refuted=3, unknown=2, invalid=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", COUNTS)


def test_a_whole_folder_is_read(folder: Path) -> None:
    run = read_run(folder)
    assert [sample.id for sample in run.samples] == list(range(11))
    assert run.summary is not None
    assert run.summary.counts == COUNTS


@pytest.mark.parametrize(
    ("text", "norm", "radius", "domain"),
    [
        ("linf:0.1", "linf", 0.1, (0, 1)),
        ("linf:8/255@u8", "linf", 8 / 255, (0, 1)),
        ("l2:0.5[-1,1]", "l2", 0.5, (-1, 1)),
        ("l1:1e-05[0,255]@u8", "l1", 1e-5, (0, 255)),
        ("patch:5x4[-1,1]", "patch", 1, (-1, 1)),
        ("spatial:30.0,3.0", "spatial", 1, (0, 1)),
        ("flow+linf:1/10,0.03@u8", "flow+linf", 1, (0, 1)),
    ],
)
def test_norm_radius_and_domain_come_from_the_text(text: str, norm: str, radius: float, domain: tuple) -> None:
    ball = parse_ball(text)
    assert ball is not None
    assert (ball.norm, ball.radius, ball.domain) == (norm, pytest.approx(radius), domain)


def test_threats_of_two_numbers_are_told_as_written() -> None:
    assert str(parse_ball("patch:5x4[-1,1]")) == "patch 5x4"
    assert str(parse_ball("l2:0.50")) == "l2 0.5"


@pytest.mark.parametrize("text", ["box", "linf", "linf:1/0", "linf:e", "patch:5x"])
def test_a_threat_without_radius_has_no_ball(text: str) -> None:
    assert parse_ball(text) is None


def test_a_torn_last_line_is_passed_over(folder: Path) -> None:
    file = folder / "samples.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert len(read_run(folder).samples) == 10


def test_the_last_line_about_a_sample_counts(folder: Path) -> None:
    file = folder / "samples.jsonl"
    line = json.loads(file.read_text().splitlines()[0]) | {"seconds": 99.0}
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    run = read_run(folder)
    assert len(run.samples) == 11
    assert next(s for s in run.samples if s.id == line["id"]).seconds == 99


def test_a_damaged_line_in_the_middle_is_named(folder: Path) -> None:
    file = folder / "samples.jsonl"
    lines = file.read_text().splitlines()
    lines[3] = "{torn"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"Line 4 of .*samples\.jsonl is damaged"):
        read_run(folder)


def test_without_a_summary_the_samples_are_counted(folder: Path) -> None:
    text = json.loads((folder / "run.json").read_text()) | {"summary": None, "state": "running"}
    (folder / "run.json").write_text(json.dumps(text))
    summary = read_run(folder).summary
    assert summary is not None
    assert summary.counts == COUNTS
    assert summary.certified_accuracy == pytest.approx(5 / 11)
    assert summary.attacked_accuracy == pytest.approx(7 / 11)
    # exact binomial tails at the ends: P(X >= 5 | low) = P(X <= 7 | high) = 2.5 %
    from scipy.stats import binom

    assert binom.sf(4, 11, summary.population_interval.low) == pytest.approx(0.025)
    assert binom.cdf(7, 11, summary.population_interval.high) == pytest.approx(0.025)


def test_a_folder_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run\.json"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "[]", "{not json"])
def test_a_file_of_another_kind_is_refused(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    with pytest.raises(InputError, match="is not a run record"):
        read_run(folder)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_version_of_records_is_refused(folder: Path, version: object) -> None:
    text = json.loads((folder / "run.json").read_text()) | {"version": version}
    (folder / "run.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match=f"version {version}, and this withstand reads version 1"):
        read_run(folder)


def test_a_damaged_record_names_the_field(folder: Path) -> None:
    text = json.loads((folder / "run.json").read_text())
    text["plan"]["seed"] = "many"
    (folder / "run.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match=r"damaged at 'plan\.seed'"):
        read_run(folder)
