"""The list of runs of every kind, from their folders alone."""

import json
from pathlib import Path

import pytest
from run_folders import make_run
from test_smoothed_page import make_run as make_smoothed
from training_folders import AFTER, BEFORE, make_training

import withstand
from withstand.auditing.folder import Folder
from withstand.cli import main
from withstand.core.errors import InputError
from withstand.core.records import Counts
from withstand.core.smoothing_records import SmoothingRecord
from withstand.reporting.run import read_run
from withstand.reporting.smoothed import read_smoothed
from withstand.reporting.words import incomplete

COUNTS = Counts(proved=4, refuted=4, unknown=4, invalid=4)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two audits, a training that is done and one that is running, a smoothed run with a summary and one without."""
    make_run(tmp_path / "audit", BEFORE)
    make_training(tmp_path / "trained")
    make_training(tmp_path / "training", state="running", epochs=3)
    finish(make_smoothed(tmp_path / "smoothed"))
    make_smoothed(tmp_path / "smoothing", state="running")
    finish(make_smoothed(tmp_path / "predicted", mode="predict"))
    return tmp_path


def finish(folder: Path) -> None:
    """Put the summary of its samples into a smoothed run's record, as a run does."""
    run = read_smoothed(folder)
    assert run.summary is not None
    changed: dict[str, object] = {"summary": run.summary}
    if run.record.plan.mode == "predict":
        changed["summary"] = run.summary.model_copy(update={"average_radius": None, "cap": None})
    record: SmoothingRecord = run.record.model_copy(update=changed)
    (folder / "smooth.json").write_text(record.model_dump_json(), "utf-8")


def test_runs_of_every_kind_are_listed_with_figures_of_their_own(home: Path) -> None:
    runs = {Path(run.path).name: run for run in withstand.ls(home)}
    assert {name: run.kind for name, run in runs.items()} == {
        "audit": "audit",
        "trained": "harden",
        "training": "harden",
        "smoothed": "smooth",
        "smoothing": "smooth",
        "predicted": "smooth",
    }
    began = [run.began for run in withstand.ls(home)]
    assert began == sorted(began)
    audit, trained, smoothed = runs["audit"], runs["trained"], runs["smoothed"]
    assert audit.summary is not None
    assert audit.summary.counts == BEFORE
    assert trained.hardened is not None
    assert trained.hardened.certified_accuracy == AFTER.proved / 200
    assert (runs["training"].state, runs["training"].hardened) == ("interrupted", None)
    assert smoothed.smoothed is not None
    assert (smoothed.smoothed.n, smoothed.smoothed.clean_accuracy) == (5, 0.6)
    assert smoothed.threat == "sigma 0.25"
    for run in runs.values():
        held = [run.summary, run.hardened, run.smoothed]
        assert sum(one is not None for one in held) == (run.state == "complete")
        assert json.loads(json.dumps(run.to_json()))["kind"] == run.kind


@pytest.mark.parametrize("name", ["audit", "trained", "smoothed"])
def test_a_run_folder_lists_itself(home: Path, name: str) -> None:
    (run,) = withstand.ls(home / name)
    assert run.path == str(home / name)


def test_statistics_stand_in_a_column_of_their_own(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["ls", str(home)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "run kind model threat state n clean certified attacked smoothed"
    rows = {Path(line.split()[0]).name: " ".join(line.split()[1:]) for line in lines}
    assert rows["trained"] == "harden digits-cnn linf:0.1 complete 200 94.00% 60.00% 83.00% -"
    assert rows["training"] == "harden digits-cnn linf:0.1 3 of 10, interrupted - - - - -"
    assert rows["smoothed"] == "smooth net sigma 0.25 complete 5 - - - 60.00%, l2 0.14 on average"
    assert rows["predicted"] == "smooth net sigma 0.25 complete 5 - - - 60.00%"
    assert rows["audit"] == "audit digits-cnn linf:0.1 complete 200 97.00% 0.00% 7.00% -"
    assert main(["ls", str(home), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert {Path(run["path"]).name: run["smoothed"] and run["smoothed"]["clean_accuracy"] for run in told} == {
        **dict.fromkeys(("audit", "trained", "training", "smoothing")),
        **dict.fromkeys(("smoothed", "predicted"), 0.6),
    }


def test_a_damaged_record_is_named(home: Path) -> None:
    (home / "smoothed" / "smooth.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"smooth\.json is not a run record"):
        withstand.ls(home)


def test_a_run_that_nothing_goes_on_with_is_interrupted_and_says_how_far(home: Path) -> None:
    """Of every kind, a record that says "running" is believed only while a process holds the folder's lock."""
    make_run(home / "killed", COUNTS, state="running", samples=40)
    make_run(home / "stopped", COUNTS, state="partial", samples=40)
    late = make_run(home / "late", COUNTS, state="partial", samples=16)
    record = json.loads((late / "run.json").read_text())
    (late / "run.json").write_text(json.dumps({**record, "ended_by": "time"}))
    told = {Path(run.path).name: (run.state, run.progress) for run in withstand.ls(home)}
    assert told["killed"] == told["stopped"] == ("interrupted", "16 of 40, interrupted")
    assert told["late"] == ("partial", "16 of 16, time over")
    assert told["training"] == ("interrupted", "3 of 10, interrupted")
    assert told["smoothing"] == ("interrupted", "5 of 5, interrupted")
    assert told["audit"] == told["trained"] == told["smoothed"] == ("complete", "complete")
    assert "16 of 40 samples are settled. The same command resumes it." in words(home / "killed")
    assert "The time was over before everything was done" in words(home / "late")
    for name in ("killed", "training", "smoothing"):
        with Folder(home / name):
            (run,) = withstand.ls(home / name)
            assert run.state == "running"
            assert run.progress == told[name][1].replace("interrupted", "running")
        with Folder(home / name):  # looking has left no lock behind
            pass
    with Folder(home / "killed"):
        assert "This run is still running: 16 of 40" in words(home / "killed")
    with Folder(home / "training"):
        assert "it is still running." in read_page(home / "training")
    assert "it was interrupted, and the same command with --resume goes on" in read_page(home / "training")


def words(folder: Path) -> str:
    return incomplete(read_run(folder))


def read_page(folder: Path) -> str:
    return Path(withstand.report(folder)).read_text("utf-8")
