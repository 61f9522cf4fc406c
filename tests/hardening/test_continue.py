"""Stopped trainings that go on are the same, in every bit, as those that never stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from training import adam, assert_same, outcome, replayed

from withstand.core.errors import InputError
from withstand.core.run_files import read_epoch_records
from withstand.hardening.progress import Tick
from withstand.hardening.trainer import CHECKPOINT, Trainer

MADE: dict[str, Callable[..., Trainer]] = {"adam": adam, "replayed": replayed}


class Stopped(Exception):
    """What a test raises in the middle of a training."""


@cache
def whole(name: str) -> dict:
    """What the training leaves when nothing stops it."""
    made = MADE[name]()
    torch.manual_seed(3)
    made.fit()
    return outcome(made)


def stopped_at(step: int) -> Callable[[Tick], None]:
    seen = 0

    def count(tick: Tick) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            raise Stopped

    return count


def resumed(name: str, folder: Path) -> dict:
    """The rest of the training, with fresh objects and other random numbers at the start."""
    made = MADE[name](folder, checkpoint_every=2)
    torch.manual_seed(99)
    made.fit(resume=True)
    return outcome(made)


@pytest.mark.parametrize("step", [3, 4, 6, 9])
@pytest.mark.parametrize("name", MADE)
def test_a_training_stopped_after_any_step_goes_on_as_if_it_had_not(name: str, step: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = MADE[name](tmp_path, checkpoint_every=2)
    torch.manual_seed(3)
    made.on_step = stopped_at(step)
    with pytest.raises(Stopped):
        made.fit()
    assert_same(resumed(name, tmp_path), whole(name))
    assert [record.epoch for record in read_epoch_records(tmp_path / "epochs.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "moment"), [("adam", "step:7"), pytest.param("replayed", "fsync:6", marks=pytest.mark.slow)]
)
def test_a_killed_process_leaves_a_checkpoint_from_which_the_training_goes_on(
    name: str, moment: str, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, str(script), name, str(tmp_path), moment],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_same(resumed(name, tmp_path), whole(name))


def test_an_interrupt_waits_for_the_end_of_the_step_and_leaves_its_checkpoint(tmp_path: Path) -> None:
    made = replayed(tmp_path)
    torch.manual_seed(3)
    made.on_step = lambda tick: os.kill(os.getpid(), signal.SIGINT) if made.state.step == 11 else None
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        made.fit()
    assert signal.getsignal(signal.SIGINT) == before
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]["step"] == 11
    assert_same(resumed("replayed", tmp_path), whole("replayed"))


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adam(tmp_path, epochs=1).fit()
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        adam(tmp_path, epochs=2).fit(resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_finished_training_does_nothing_more(tmp_path: Path) -> None:
    first = adam(tmp_path)
    torch.manual_seed(3)
    first.fit()
    again = adam(tmp_path)
    again.fit(resume=True)
    assert_same({**outcome(again)}, whole("adam"))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"clip": 4.0}, "another recipe, with clip 5.0 and not 4.0"),
        ({"recipe": {"data": "mnist"}}, "another recipe, with data None and not mnist"),
        ({"accumulate": 1}, "another recipe, with batch"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(changed: dict, sentence: str, tmp_path: Path) -> None:
    adam(tmp_path, epochs=1).fit()
    with pytest.raises(InputError, match=sentence):
        adam(tmp_path, **changed).fit(resume=True)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    adam(tmp_path, epochs=1).fit()
    held = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    torch.save({**held, "model": "0" * 16}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="is of another model"):
        adam(tmp_path).fit(resume=True)


@pytest.mark.parametrize("change", [{"format": 99}, {"library": "0.0.1"}])
def test_a_checkpoint_of_another_version_is_refused(change: dict, tmp_path: Path) -> None:
    adam(tmp_path, epochs=1).fit()
    held = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    torch.save({**held, **change}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="was written by withstand"):
        adam(tmp_path).fit(resume=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn", b"epoch 1"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match="is no checkpoint"):
        adam(tmp_path).fit(resume=True)


def test_a_schedule_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    made = adam(tmp_path, epochs=1)
    assert made.scheduler is not None
    made.scheduler.curve = object()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="The scheduler holds a object, which a checkpoint cannot store"):
        made.fit()
