"""Records of epochs in TensorBoard and MLflow."""

import sys
from pathlib import Path

import pytest

from withstand.cli.harden_talk import line
from withstand.core.errors import InputError
from withstand.core.harden_records import EpochRecord
from withstand.hardening import loggers

RECORDS = [
    EpochRecord(epoch=1, step=4, learning_rate=0.1, radius=0.05, loss=2.0, logs={"robust": 2.5}, clean=0.5, pgd=0.25),
    EpochRecord(epoch=2, step=8, learning_rate=0.05, radius=0.1, loss=1.0, logs={"robust": 1.5}, clean=0.75, pgd=0.5),
]


def test_the_figures_of_an_epoch() -> None:
    assert loggers.figures(RECORDS[0]) == {
        "loss": 2.0,
        "learning_rate": 0.1,
        "radius": 0.05,
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "loss/robust": 2.5,
        "accuracy/clean": 0.5,
        "accuracy/pgd": 0.25,
    }


def test_the_figure_of_a_vote_and_its_line() -> None:
    record = RECORDS[0].model_copy(update={"smoothed": 0.375})
    assert loggers.figures(record)["accuracy/smoothed"] == 0.375
    assert "PGD 25.0 %, smoothed 37.5 %, rate" in line(record)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write = loggers.tensorboard(tmp_path)
    for record in RECORDS:
        write(record)
    held = EventAccumulator(str(tmp_path))
    held.Reload()
    assert [(event.step, event.value) for event in held.Scalars("accuracy/pgd")] == [(1, 0.25), (2, 0.5)]
    assert [(event.step, event.value) for event in held.Scalars("loss/robust")] == [(1, 2.5), (2, 1.5)]


def test_mlflow_reads_what_was_written(tmp_path: Path) -> None:
    server = pytest.importorskip("mlflow", reason="MLflow is not installed")
    write = loggers.mlflow("digits", f"sqlite:///{tmp_path / 'runs.db'}")
    for record in RECORDS:
        write(record)
    (run,) = server.search_runs(experiment_names=["digits"], output_format="list")
    history = server.MlflowClient().get_metric_history(run.info.run_id, "accuracy/pgd")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.5)]


@pytest.mark.parametrize(
    ("package", "callback"), [("torch.utils.tensorboard", loggers.tensorboard), ("mlflow", loggers.mlflow)]
)
def test_a_missing_package_is_one_sentence(package: str, callback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"is not installed; run pip install withstand\[(tensorboard|mlflow)\]"):
        callback("runs")
