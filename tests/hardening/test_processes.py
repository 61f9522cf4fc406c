"""Two gloo processes train as one with the whole batch would."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training import ROWS, digits, network, replayed

from withstand.core.errors import InputError
from withstand.hardening.loader import Batch, Loader
from withstand.hardening.objective import build_objective
from withstand.hardening.state import State
from withstand.hardening.step import Diverged
from withstand.hardening.trainer import Trainer
from withstand.hardening.validate import Validation


def made(objective: str, folder: str | None, **changed: Any) -> Trainer:
    """SGD without batch normalisation, on batches that two processes halve."""
    x, y = digits()
    module = network()
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    return Trainer(
        module,
        build_objective(objective),
        State("linf:0.1"),
        optimiser,
        Loader(x[:ROWS], y[:ROWS], 50),
        2,
        validation=Validation(x[ROWS : ROWS + 99], y[ROWS : ROWS + 99]),
        average=0.9,
        clip=2.0,
        folder=folder,
        **changed,
    )


def left(trained: Trainer) -> dict[str, Any]:
    records = [record.model_dump(exclude={"seconds", "cpu_seconds"}) for record in trained.progress.history]
    return {"weights": list(trained.module.state_dict().values()), "records": records}


def together(folder: str) -> dict[str, Any]:
    """PGD, TRADES and ATLD with its discriminator, with the batch whole and in parts."""
    runs = [("pgd:steps=3,step=0.5", 1), ("pgd:steps=3,step=0.5", 5), ("trades:steps=2,step=0.5", 1)]
    runs.append(("atld:divergence=js,weight=1,rate=0.1", 1))
    found = []
    for number, (objective, parts) in enumerate(runs):
        trained = made(objective, f"{folder}{number}", accumulate=parts)
        trained.fit()
        found.append(left(trained))
    return {"runs": found}


def stopped(folder: str) -> dict[str, Any]:
    """Two epochs, and one epoch and then the other from the checkpoint; what the objective keeps is each process's."""
    whole = replayed(None, epochs=2)
    torch.manual_seed(3)
    whole.fit()
    half = replayed(Path(folder), epochs=1)
    torch.manual_seed(3)
    half.fit()
    rest = replayed(Path(folder), epochs=2)
    rest.fit(resume=True)
    same = [torch.equal(a, b) for a, b in zip(whole.module.state_dict().values(), rest.module.state_dict().values())]
    held = torch.equal(whole.state.held["replaying:change"], rest.state.held["replaying:change"])
    broken = made("natural", None)
    if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
        broken.loader.x = broken.loader.x * float("nan")
    try:
        broken.fit()
        sentence = ""
    except Diverged as error:
        sentence = str(error)
    return {"same": all(same) and held, "sentence": sentence}


class Stopping(Loader):
    """Raises where the fourth batch would be."""

    def at(self, epoch: int, index: int, rank: int = 0, processes: int = 1) -> Batch:
        if index == 3:
            raise InterruptedError
        return super().at(epoch, index, rank, processes)


def normalised(folder: str) -> dict[str, Any]:
    """Batch normalisation, whose statistics are each process's own within an epoch; without a stop, and with one."""

    def fresh(form: type[Loader], folder: str | None) -> Trainer:
        x, y = digits()
        module = network(norm=True)
        optimiser = torch.optim.SGD(module.parameters(), 0.1)
        loader, objective = form(x[:ROWS], y[:ROWS], 50), build_objective("pgd:steps=2")
        return Trainer(module, objective, State("linf:0.1"), optimiser, loader, 1, folder=folder, checkpoint_every=2)

    whole, rest = fresh(Loader, None), fresh(Loader, folder)
    whole.fit()
    with contextlib.suppress(InterruptedError):
        fresh(Stopping, folder).fit()
    rest.fit(resume=True)
    return {name: list(one.module.state_dict().values()) for name, one in (("whole", whole), ("rest", rest))}


def everything(folder: str) -> dict[str, Any]:
    """All of these."""
    return {**together(folder), **stopped(folder), "normalised": normalised(f"{folder}-normalised")}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two processes are left with, and where."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("shared_step.py")
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(folder / "meeting"), str(folder / "left")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return folder, [torch.load(folder / f"left-{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_train_as_one_does(two: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    first, second = two[1]
    alone = together(str(tmp_path / "alone"))
    for one, other, single in zip(first["runs"], second["runs"], alone["runs"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one["weights"], other["weights"], strict=True))
        assert one["records"] == other["records"]
        for a, b in zip(one["weights"], single["weights"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)
        for record, wanted in zip(one["records"], single["records"], strict=True):
            assert record["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
            assert (record["clean"], record["pgd"]) == (wanted["clean"], wanted["pgd"])


def test_statistics_are_levelled_at_the_end_of_an_epoch_and_stored_before(
    two: tuple[Path, list[dict[str, Any]]],
) -> None:
    first, second = (found["normalised"] for found in two[1])
    for other in (second["whole"], first["rest"], second["rest"]):
        assert all(torch.equal(a, b) for a, b in zip(first["whole"], other, strict=True))


def test_processes_stop_and_go_on_together(two: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, both = two
    assert [found["same"] for found in both] == [True, True]
    assert "In epoch 1, batch 1, the loss of another process became no number: lower" in both[0]["sentence"]
    assert "In epoch 1, batch 1, the loss became nan: lower" in both[1]["sentence"]
    with pytest.raises(InputError, match="was written by 2 processes and this training has 1"):
        replayed(folder / "left-folder", epochs=2).fit(resume=True)
