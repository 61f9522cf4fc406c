"""The list of runs of every kind, from their folders alone."""

import json
from pathlib import Path

import pytest
from run_folders import make_run
from test_smoothed_page import make_run as make_smoothed
from training_folders import AFTER, BEFORE, make_training

import withstand
from withstand.cli import main
from withstand.core.errors import InputError
from withstand.core.smoothing_records import SmoothingRecord
from withstand.reporting.smoothed import read_smoothed


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
    assert (runs["training"].state, runs["training"].hardened) == ("running", None)
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


def test_statistics_stand_in_a_column_of_their_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(home)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "run kind model threat state n clean certified attacked smoothed"
    rows = {Path(line.split()[0]).name: " ".join(line.split()[1:]) for line in lines}
    assert rows["trained"] == "harden digits-cnn linf:0.1 complete 200 94.00% 60.00% 83.00% -"
    assert rows["training"] == "harden digits-cnn linf:0.1 running - - - - -"
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
