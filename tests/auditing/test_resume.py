"""A run killed at any moment loses no finished sample, and ends as if it had never been killed."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from lab import PLAN, THREAT, Lab, N
from measured import measured

import withstand
from withstand.auditing.audit import Audit
from withstand.auditing.runfolder import RunFolder
from withstand.core.errors import InputError
from withstand.core.records import SampleRecord

VICTIM = Path(__file__).with_name("victim.py")


def victim(lab: Lab, folder: Path, moment: str, workers: int = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(VICTIM), lab.onnx, lab.npz, THREAT, str(folder), str(workers), moment]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def settled(folder: Path) -> dict[int, SampleRecord]:
    """The records by sample, without their times; margins rounded to what float32 sums in any order share."""
    records = {}
    for sample in RunFolder(folder).read_samples():
        rounded = {
            name: None if getattr(sample, name) is None else round(getattr(sample, name), 3)
            for name in ("margin", "clean_margin", "bound", "distance")
        }
        records[sample.id] = sample.model_copy(update={"seconds": 0.0, "reason": "", **rounded})
    return records


@pytest.fixture(scope="module")
def whole(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, Path]:
    """The run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=folder, batch=16), folder


def test_an_undisturbed_run_closes_the_jaws(whole: tuple[Audit, Path]) -> None:
    result, folder = whole
    assert result.state == "complete"
    assert result.n == N
    counts = result.counts
    assert counts.proved + counts.refuted + counts.unknown + counts.invalid == N
    assert min(counts.proved, counts.refuted) > 5
    assert result.certified_accuracy == counts.proved / N <= measured(result.attacked_accuracy) <= result.clean_accuracy
    assert result.population_interval.low < result.certified_accuracy
    assert measured(result.population_interval.high) > measured(result.attacked_accuracy)
    assert json.loads((folder / "run.json").read_text())["state"] == "complete"
    assert len(list((folder / "witnesses").glob("*.npz"))) == counts.refuted


def test_the_curve_is_monotone_and_holds_the_jaws(whole: tuple[Audit, Path]) -> None:
    points = whole[0].curve
    assert len(points) == 3
    assert all(point.certified <= measured(point.attacked) for point in points)
    assert all(a.certified >= b.certified and measured(a.attacked) >= measured(b.attacked) for a, b in pairwise(points))
    middle = next(point for point in points if point.radius == 0.06)
    assert (middle.certified, middle.attacked) == (whole[0].certified_accuracy, whole[0].attacked_accuracy)
    assert points[0].certified > middle.certified
    assert measured(points[-1].attacked) < measured(middle.attacked)


@pytest.mark.parametrize("moment", ["event:15", pytest.param("fsync:5", marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_undisturbed(
    lab: Lab, whole: tuple[Audit, Path], tmp_path: Path, moment: str
) -> None:
    folder = tmp_path / "run"
    killed = victim(lab, folder, moment)
    assert killed.returncode == -9, killed.stderr
    finished = settled(folder)
    assert len(finished) < N
    shown = json.loads((folder / "run.json").read_text())
    assert shown["state"] == "running"
    lines_before = (folder / "samples.jsonl").read_bytes() if finished else b""
    resumed = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=folder, batch=16)
    assert (folder / "samples.jsonl").read_bytes().startswith(lines_before)
    assert settled(folder) == settled(whole[1])
    assert resumed.counts == whole[0].counts
    assert resumed.curve == whole[0].curve
    assert withstand.check(folder).failures == []


def test_a_torn_last_line_is_done_again(lab: Lab, whole: tuple[Audit, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert victim(lab, folder, "event:24").returncode == -9
    file = folder / "samples.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    assert len(RunFolder(folder).read_samples()) == content.count(b"\n") - 1
    withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=folder, batch=16)
    assert settled(folder) == settled(whole[1])


def test_a_broken_line_in_the_middle_is_told(lab: Lab, whole: tuple[Audit, Path], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.samples_file.write_bytes(b"{broken\n" + (whole[1] / "samples.jsonl").read_bytes())
    with pytest.raises(InputError, match=r"Line 1 of .* is damaged"):
        folder.read_samples()


def test_interrupt_leaves_a_valid_partial_run(lab: Lab, whole: tuple[Audit, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = victim(lab, folder, "interrupt:20")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "partial"
    record = RunFolder(folder).read_run()
    assert record is not None
    assert record.state == "partial"
    assert record.summary is not None
    assert 0 < record.summary.n < N == record.samples
    withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=folder, batch=16)
    assert settled(folder) == settled(whole[1])


def test_a_finished_run_is_not_done_again(lab: Lab, whole: tuple[Audit, Path]) -> None:
    lines = (whole[1] / "samples.jsonl").read_bytes()
    stages = []
    again = withstand.audit(
        lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=whole[1], batch=16, progress=lambda e: stages.append(e.stage)
    )
    assert stages == ["done"]
    assert (whole[1] / "samples.jsonl").read_bytes() == lines
    assert again.counts == whole[0].counts


@pytest.mark.parametrize("batch", [7])
def test_the_batch_changes_nothing(lab: Lab, whole: tuple[Audit, Path], tmp_path: Path, batch: int) -> None:
    withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=tmp_path / "run", batch=batch)
    assert settled(tmp_path / "run") == settled(whole[1])


@pytest.mark.slow
def test_two_workers_equal_one(lab: Lab, whole: tuple[Audit, Path], tmp_path: Path) -> None:
    ended = victim(lab, tmp_path / "run", "never", workers=2)
    assert ended.stdout.strip() == "complete", ended.stderr
    assert settled(tmp_path / "run") == settled(whole[1])


def test_workers_killed_with_their_parent_leave_a_run_to_resume(
    lab: Lab, whole: tuple[Audit, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert victim(lab, folder, "fsync:6", workers=2).returncode == -9
    withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=folder, batch=16)
    assert settled(folder) == settled(whole[1])


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.open()
    with pytest.raises(InputError, match="Another run is writing"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_ls_lists_runs_with_their_numbers(whole: tuple[Audit, Path]) -> None:
    (listed,) = withstand.ls(whole[1].parent)
    assert listed.path == str(whole[1])
    assert listed.summary is not None
    assert listed.summary.counts == whole[0].counts
    assert listed.to_json()["summary"]["n"] == N
    with pytest.raises(InputError, match="no folder"):
        withstand.ls(whole[1] / "nowhere")
