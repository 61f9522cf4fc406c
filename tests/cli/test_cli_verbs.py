"""Every verb but audit: what it prints, and its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import HARD, QUESTION, Command, write_question


def test_attack_tells_each_attack_and_all_together(withstand: Command) -> None:
    done = withstand("attack", *HARD, "--attack", "fgsm,pgd:steps=5,restarts=2", "--attack", "noise", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert list(told["attacks"]) == ["fgsm", "pgd:steps=5,restarts=2", "noise"]
    each = [figures["attacked_accuracy"] for figures in told["attacks"].values()]
    assert told["attacked_accuracy"] <= min(each) <= told["clean_accuracy"]
    assert told["attacked_accuracy"] < told["clean_accuracy"]


def test_attack_in_words(withstand: Command) -> None:
    done = withstand("attack", *HARD, "--attack", "pgd:steps=5")
    assert done.code == 0, done.err
    assert "pgd:steps=5" in done.out
    assert "of 4 samples survive all attacks" in done.out


@pytest.mark.parametrize("method", ["ibp", "crown", "zonotope"])
def test_verify_tells_counts(method: str, withstand: Command) -> None:
    question = ("digits-cnn", "--data", "digits", "--threat", "linf:0.002", "--limit", "4")
    done = withstand("verify", *question, "--method", method, "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["method"] == method
    assert sum(told["counts"].values()) == told["n"] == 4
    assert told["counts"]["refuted"] == 0
    assert told["certified_accuracy"] == told["counts"]["proved"] / 4 > 0


def test_verify_in_words_and_in_float64(withstand: Command) -> None:
    done = withstand("verify", *QUESTION, "--double")
    assert done.code == 0, done.err
    assert "auto proves" in done.out
    assert "float64" in done.out


def test_verify_says_what_stopped_it_and_how_far_it_came(withstand: Command) -> None:
    question = ("digits-cnn", "--data", "digits", "--threat", "linf:0.1", "--limit", "2")
    done = withstand("verify", *question, "--method", "ibp")
    assert done.code == 0, done.err
    assert "2 unknown: ibp came to its end; the best bounds lie between -" in done.out


def test_doctor_has_a_line_for_each_check(withstand: Command) -> None:
    done = withstand("doctor", *QUESTION)
    assert done.code == 0, done.err
    assert "pass  clean accuracy:" in done.out
    checks = withstand("doctor", *QUESTION, "--json").json["checks"]
    assert len(checks) == len(done.out.splitlines())


def test_doctor_fails_on_a_broken_model(withstand: Command) -> None:
    Path("broken_network.py").write_text(
        "import torch\n"
        "class Broken(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1)[:, :10] / 0\n"
    )
    done = withstand("doctor", "broken_network:Broken", *QUESTION[1:])
    sys.modules.pop("broken_network", None)
    assert done.code == 1, done.err
    assert "fail" in done.out


def test_replay_check_report_and_ls_of_a_run(run: Path, withstand: Command) -> None:
    witness = next((run / "witnesses").glob("*.npz"))
    replayed = withstand("replay", witness)
    assert replayed.code == 0, replayed.err
    assert replayed.out.startswith("Reproduced")
    assert withstand("replay", witness, "--json").json["reproduced"] is True

    checked = withstand("check", run)
    assert checked.code == 0, checked.out + checked.err
    assert "everything holds" in checked.out

    (run / "report.html").unlink()
    assert withstand("report", run).out == f"{run / 'report.html'}\n"
    assert (run / "report.html").is_file()

    listed = withstand("ls")
    assert listed.code == 0
    assert "runs/hard" in listed.out
    assert [held["path"] for held in withstand("ls", "--json").json["runs"]] == ["runs/hard"]


def test_replay_of_another_network_is_exit_1(run: Path, withstand: Command) -> None:
    import torch

    from withstand.graph.capture import capture
    from withstand.graph.onnx_writer import write_onnx

    witness = next((run / "witnesses").glob("*.npz"))
    label = int(withstand("replay", witness, "--json").json["label"])
    layer = torch.nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.eye(10)[label])
    constant = torch.nn.Sequential(torch.nn.Flatten(), layer)
    Path("constant.onnx").write_bytes(write_onnx(capture(constant, (1, 8, 8))))
    done = withstand("replay", witness, "--model", "constant.onnx")
    assert done.code == 1
    assert done.out.startswith("Not reproduced")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from withstand.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_replay_needs_no_torch(run: Path, withstand: Command) -> None:
    witness = next((run / "witnesses").glob("*.npz"))
    argv = ["replay", str(witness), "--model", str(run / "model.onnx")]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Reproduced")


def test_check_finds_a_changed_record(run: Path, withstand: Command) -> None:
    samples = run / "samples.jsonl"
    lines = samples.read_text().splitlines()
    refuted = next(i for i, line in enumerate(lines) if json.loads(line)["status"] == "refuted")
    lines[refuted] = json.dumps({**json.loads(lines[refuted]), "status": "unknown"})
    samples.write_text("\n".join(lines) + "\n")
    done = withstand("check", run)
    assert done.code == 1
    assert "fail" in done.out


def test_ls_lists_methods(withstand: Command) -> None:
    done = withstand("ls", "--methods")
    assert done.code == 0
    assert "pgd" in done.out
    told = withstand("ls", "--methods", "--json").json["methods"]
    assert {("attack", "pgd"), ("verifier", "crown")} <= {(row["kind"], row["name"]) for row in told}


@pytest.mark.parametrize(("limit", "word"), [(0.5, "sat"), (1.5, "unsat")])
def test_vnnlib_answers_as_the_competition_wants(limit: float, word: str, withstand: Command) -> None:
    onnx, vnnlib = write_question(limit)
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib, "--budget", "30", "--out", "answer.txt")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == word
    assert Path("answer.txt").read_text() == done.out
    assert ("(X_0 " in done.out) == (word == "sat")
    told = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib, "--json").json
    assert told["result"] == word
    if word == "sat":
        (x0, x1), (y0, _) = told["witness"]
        assert y0 >= limit
        assert x0 - x1 == pytest.approx(y0)
