"""What the tests of the command line share: running it in an empty folder, and one finished run."""

import contextlib
import io
import shutil
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from commands import HARD, Command, Done

from withstand.cli import main


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small problems are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="package")
def ready_workers() -> Iterator[None]:
    """Worker processes that answer VNN-LIB questions begin as copies of one that has loaded the packages, which takes
    each of them seconds; `tests/verification` starts them as users do."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["onnx", "onnxruntime", "torch", "withstand.verification.vnncomp"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("withstand.verification.instances.get_context", lambda method: context)
        yield


@pytest.fixture
def withstand(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*argv: object) -> Done:
        code = main([str(word) for word in argv])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The folder of a finished run with witnesses, and how its command ended."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["audit", *HARD, "--out", str(folder / "hard")])
    return folder / "hard", Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def run(finished: tuple[Path, Done], tmp_path: Path) -> Path:
    """A copy of the finished run, as runs/hard below the current folder."""
    shutil.copytree(finished[0], tmp_path / "runs" / "hard")
    return Path("runs/hard")
