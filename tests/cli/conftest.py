"""What the tests of the command line share: running it in an empty folder."""

from pathlib import Path

import pytest
from commands import Command, Done

from withstand.cli import main


@pytest.fixture
def withstand(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Done:
        code = main([str(word) for word in argv])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return run
