"""Callbacks of the trainer that write the records of epochs where other tools show them."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from withstand.core.errors import InputError
from withstand.core.harden_records import EpochRecord

Callback = Callable[[EpochRecord], None]


def logger(name: str, folder: Path) -> Callback:
    """The callback named `tensorboard`, which writes into the folder `tensorboard` of a run folder, or `mlflow`, whose
    experiment is called withstand.

    Raises InputError when there is no such name, or its package is missing.
    """
    if name == "tensorboard":
        return tensorboard(folder / "tensorboard")
    if name == "mlflow":
        return mlflow("withstand")
    raise InputError(f"There is no logger {name!r}; choose tensorboard or mlflow.")


def figures(record: EpochRecord) -> dict[str, float]:
    """The numbers of an epoch by name: `loss`, `loss/<part>` of what the objective tells, `accuracy/clean`,
    `accuracy/fgsm`, `accuracy/pgd`, `accuracy/interval`, `accuracy/smoothed`, `learning_rate`, `radius`, `seconds` and
    `cpu_seconds`; those it does not have are left out."""
    rates = {f"accuracy/{name}": getattr(record, name) for name in ("clean", "fgsm", "pgd", "interval", "smoothed")}
    own = {name: getattr(record, name) for name in ("loss", "learning_rate", "radius", "seconds", "cpu_seconds")}
    told = {f"loss/{name}": figure for name, figure in record.logs.items()}
    return {name: figure for name, figure in {**own, **told, **rates}.items() if figure is not None}


def tensorboard(folder: str | PathLike[str]) -> Callback:
    """Write every epoch's figures as scalars of TensorBoard below a folder, by the epoch's number.

    Raises InputError when TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard is not installed; run pip install withstand[tensorboard].") from None
    writer = SummaryWriter(str(folder))

    def write(record: EpochRecord) -> None:
        for name, figure in figures(record).items():
            writer.add_scalar(name, figure, record.epoch)
        writer.flush()

    return write


def mlflow(experiment: str, tracking: str | None = None) -> Callback:
    """Write every epoch's figures as metrics of a new run of MLflow, by the epoch's number.

    experiment: its name. tracking: where MLflow keeps runs, as its `set_tracking_uri` takes it (None: as MLflow is set
    up). Raises InputError when MLflow is not installed.
    """
    try:
        import mlflow as server  # type: ignore[import-not-found]
    except ImportError:
        raise InputError("MLflow is not installed; run pip install withstand[mlflow].") from None
    if tracking is not None:
        server.set_tracking_uri(tracking)
    number = server.set_experiment(experiment).experiment_id
    client = server.MlflowClient()
    run = client.create_run(number).info.run_id

    def write(record: EpochRecord) -> None:
        for name, figure in figures(record).items():
            client.log_metric(run, name, figure, step=record.epoch)

    return write
