"""`withstand audit` from the outside: what it prints where, what it leaves behind, and that it resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import HARD, QUESTION, Command, Done

KEYS = {
    "n", "clean_accuracy", "certified_accuracy", "attacked_accuracy", "counts", "population_interval", "seconds",
    "queries", "alarms", "run_dir", "version",
}  # fmt: skip


def strictly(text: str) -> object:
    """JSON without the NaN and Infinity that Python would let pass."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_the_only_thing_on_stdout(withstand: Command) -> None:
    done = withstand("audit", *QUESTION, "--out", "run", "--json")
    assert done.code == 0, done.err
    told = strictly(done.out)
    assert isinstance(told, dict)
    assert set(told) >= KEYS
    assert set(told["counts"]) == {"proved", "refuted", "unknown", "invalid"}
    assert set(told["seconds"]) >= {"doctor", "attack", "verify", "total"}
    assert sum(told["counts"].values()) == told["n"] == 3
    assert told["certified_accuracy"] == told["counts"]["proved"] / 3
    assert told["attacked_accuracy"] == (told["counts"]["proved"] + told["counts"]["unknown"]) / 3
    assert "3 samples" in done.err


def test_the_result_is_told_in_words_with_paths(finished: tuple[Path, Done]) -> None:
    folder, done = finished
    assert done.code == 0, done.err
    assert "At linf 0.2" in done.out
    assert f"run folder: {folder}" in done.out
    for name in ("run.json", "samples.jsonl", "report.html"):
        assert (folder / name).is_file()
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 4


def test_the_same_command_again_resumes(run: Path, withstand: Command) -> None:
    lines = (run / "samples.jsonl").read_text()
    held = json.loads((run / "run.json").read_text())["summary"]
    again = withstand("audit", *HARD, "--out", run, "--json").json
    assert (run / "samples.jsonl").read_text() == lines
    assert again["counts"] == held["counts"]
    assert again["queries"] == held["queries"]


def test_a_saved_plan_repeats_the_run(withstand: Command) -> None:
    first = withstand("audit", *QUESTION, "--out", "one", "--seed", "3", "--save-plan", "plan.json", "--json")
    assert first.code == 0, first.err
    assert json.loads(Path("plan.json").read_text())["seed"] == 3
    again = withstand("audit", "--plan", "plan.json", "--out", "two", "--json")
    assert again.code == 0, again.err
    assert again.json["counts"] == first.json["counts"]
    assert again.json["queries"] == first.json["queries"]


def test_what_a_model_prints_does_not_reach_stdout(withstand: Command) -> None:
    Path("talking_network.py").write_text(
        "import torch\n"
        "def make():\n"
        "    print('hello from the factory')\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    done = withstand("audit", "talking_network:make", *QUESTION[1:], "--out", "run", "--json")
    sys.modules.pop("talking_network", None)
    assert done.code == 0, done.err
    strictly(done.out)
    assert "hello from the factory" in done.err


def test_a_fault_of_the_tool_is_exit_3(withstand: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from withstand.auditing import audit as home
    from withstand.core.errors import ToolFault

    def broken(*args: object, **kwargs: object) -> None:
        raise ToolFault("Sample 3 was refuted and proved.")

    monkeypatch.setattr(home, "audit", broken)
    done = withstand("audit", *QUESTION)
    assert done.code == 3
    assert done.err == "withstand: Sample 3 was refuted and proved.\n"


def test_interruption_leaves_a_valid_partial_run(tmp_path: Path) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from withstand.cli import main; sys.exit(main())"
    )
    question = ["audit", "digits-cnn", "--data", "digits", "--threat", "linf:0.1", "--out", "run", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *question],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    record = tmp_path / "run" / "run.json"
    deadline = time.monotonic() + 60
    while not record.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert strictly(out)["state"] == "partial"  # type: ignore[index]
    assert json.loads(record.read_text())["state"] == "partial"
    assert (tmp_path / "run" / "report.html").is_file()
