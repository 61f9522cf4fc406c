"""`withstand verify` on VNN-LIB questions: lists with results and totals, time limits, unusable input."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Command, write_question

from withstand.io.instances import Instance
from withstand.io.results import Result, ResultsFile, read_results
from withstand.verification.instances import Outcome


@pytest.fixture
def listed(withstand: Command) -> str:
    """A list of three questions about y = x0 - x1 on the unit square, the last of them about a file that is missing."""
    for name, limit in (("reached", 0.5), ("held", 1.5)):
        write_question(limit)
        Path("prop.vnnlib").rename(f"{name}.vnnlib")
    Path("list.csv").write_text(
        "onnx,vnnlib,timeout_s,known_verdict\n"
        "net.onnx,reached.vnnlib,30,sat\n"
        "net.onnx,held.vnnlib,30,unsat\n"
        "net.onnx,missing.vnnlib,30,unknown\n"
    )
    return "list.csv"


def test_a_list_gets_a_table_totals_and_results(listed: str, withstand: Command) -> None:
    done = withstand("verify", "--instances", listed, "--out", "out.csv", "--certificates", "kept")
    assert done.code == 0, done.err
    header, *rows = done.out.splitlines()[:4]
    assert header.split() == ["network", "question", "result", "known", "seconds", "CPU", "domains", "bound"]
    assert [row.split()[:3] for row in rows] == [
        ["net", "reached", "sat"],
        ["net", "held", "unsat"],
        ["net", "missing", "error"],
    ]
    assert "2 of 3 solved (1 sat, 1 unsat, 0 timeout, 0 unknown, 1 error), 0 wrong" in done.out
    assert "PAR-2" in done.out
    assert "3/3  net missing  error" in done.err
    assert "missing.vnnlib' cannot be read" in done.err
    results = read_results("out.csv")
    assert [result.result for result in results] == ["sat", "unsat", "error"]
    assert Path(results[0].certificate).read_text().startswith("sat\n((X_0 ")
    assert 0 < results[1].bound < 0.51


def test_a_list_goes_on_where_it_was_killed_under_the_command_s_time_limit(listed: str, withstand: Command) -> None:
    file = ResultsFile("out.csv")
    for name, word in (("reached", "sat"), ("missing", "error")):
        file.append(Result("net.onnx", f"{name}.vnnlib", word, 3.0, 2.0, 0, 0.0))
    file.close()
    whole = Path("out.csv").read_text()
    Path("out.csv").write_text(whole + "net.onnx,held.vn")
    done = withstand("verify", "--instances", listed, "--out", "out.csv", "--budget", "0.000001", "--json")
    assert done.code == 0, done.err
    assert done.err.startswith("2 of 3 instances have results already\n3/3  net held  timeout")
    assert Path("out.csv").read_text().startswith(whole + "net.onnx,held.vnnlib,timeout,")
    told = done.json
    assert [row["result"] for row in told["instances"]] == ["sat", "timeout", "error"]
    assert told["totals"]["solved"] == 1
    assert told["totals"]["words"]["error"] == 1


def test_a_wrong_verdict_is_exit_3(listed: str, withstand: Command) -> None:
    file = ResultsFile("out.csv")
    for name, word in (("reached", "unsat"), ("held", "unsat"), ("missing", "error")):
        file.append(Result("net.onnx", f"{name}.vnnlib", word, 3.0, 2.0, 0, 0.0))
    file.close()
    done = withstand("verify", "--instances", listed, "--out", "out.csv")
    assert done.code == 3
    assert "sat (!)" in done.out
    assert "1 of 3 solved" in done.out
    assert "PAR-2 41.00 s" in done.out  # 3 s, and twice twice the limit of 30 s
    assert done.complaint.startswith("withstand: 1 verdicts contradict the known ones: net reached is known to be sat")


def test_an_answer_that_failed_by_our_fault_is_exit_3(
    listed: str, withstand: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_all(instances: list[Instance], **options: object) -> Iterator[tuple[int, Outcome]]:
        for number, one in enumerate(instances):
            result = Result(one.onnx, one.vnnlib, "error", 1.0, 1.0, 0, 0.0)
            yield number, Outcome(one, result, "it went wrong", fault=number == 1)

    monkeypatch.setattr("withstand.verification.instances.answer_all", answer_all)
    done = withstand("verify", "--instances", listed)
    assert done.code == 3
    assert "0 of 3 solved" in done.out
    assert "2/3  net held  error  1.00 s: it went wrong" in done.err
    assert done.complaint.startswith("withstand: 1 of 3 instances failed by a fault")


STUCK = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import misbehave
from withstand.cli import main
from withstand.verification import instances

instances.serve = misbehave.serve
sys.exit(main())
"""


def test_a_question_ends_in_time_even_in_the_middle_of_a_step(withstand: Command) -> None:
    onnx, vnnlib = write_question(0.5)
    Path(vnnlib).rename("hang.vnnlib")
    question = ["verify", "--onnx", onnx, "--vnnlib", "hang.vnnlib", "--budget", "4", "--out", "answer.txt"]
    tests = Path(__file__).parents[1] / "verification"
    argv = [sys.executable, "-c", STUCK, str(tests), *question, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path("answer.txt").read_text() == "timeout\n"
    told = json.loads(done.stdout)
    assert told["result"] == "timeout"
    assert 4.0 <= told["seconds"] < 10.0
    assert told["reason"] == "the time was over, in the middle of a step"


UNIT = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2))
OUT = "(declare-const Y_0 Real)(declare-const Y_1 Real)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{UNIT}(declare-const Y_0 Real)(assert (<= Y_0 0))", "speaks of 1 outputs, the network has 2"),
        (f"{UNIT}{OUT}(assert (<= Y_7 0))", "Y_7 is not declared"),
        (f"(declare-const X_0 Real){OUT}", "declares 1 inputs, the network takes [2]"),
        (f"(declare-const X_0 Real)(declare-const X_1 Real){OUT}(assert (<= X_0 1))", "X_0 has no lower"),
    ],
    ids=["outputs", "absent", "inputs", "unbounded"],
)
def test_questions_that_do_not_fit_are_one_sentence(text: str, words: str, withstand: Command) -> None:
    onnx, vnnlib = write_question(0.5)
    Path(vnnlib).write_text(text)
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib)
    assert (done.code, done.out) == (2, "")
    assert words in done.complaint


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
def test_time_limits_that_are_none(seconds: str, withstand: Command) -> None:
    onnx, vnnlib = write_question(0.5)
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib, "--budget", seconds)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err


def test_a_time_limit_may_be_a_year(withstand: Command) -> None:
    onnx, vnnlib = write_question(0.5)
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib, "--budget", "31536000")
    assert (done.code, done.out.split()[0]) == (0, "sat")


@pytest.mark.parametrize("place", ["weight", "bias"])
def test_a_network_with_nan_is_one_sentence(place: str, withstand: Command) -> None:
    import torch

    from withstand.graph.capture import capture
    from withstand.graph.onnx_writer import write_onnx

    onnx, vnnlib = write_question(0.5)
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        getattr(layer, place).view(-1)[0] = float("nan")
    Path(onnx).write_bytes(write_onnx(capture(layer, (2,))))
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib)
    assert (done.code, done.out) == (2, "")
    assert "holds NaN" in done.complaint


def test_a_network_that_computes_nan_is_one_sentence(withstand: Command) -> None:
    import torch

    from withstand.graph.capture import capture
    from withstand.graph.onnx_writer import write_onnx

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x - 2)

    onnx, vnnlib = write_question(0.5)
    Path(onnx).write_bytes(write_onnx(capture(Broken(), (2,))))
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib)
    assert (done.code, done.out) == (2, "")
    assert "answers NaN in the middle" in done.complaint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--instances", "absent.csv"), "absent.csv"),
        (("--instances", "list.csv", "--onnx", "net.onnx"), "takes no --onnx"),
        (("digits-cnn", "--instances", "list.csv"), "MODEL"),
        (("--onnx", "net.onnx"), "both --onnx and --vnnlib"),
        (("--instances", "list.csv", "--out", "list.csv"), "is no results file"),
        (("--instances", "list.csv", "--out", "no/out.csv"), "cannot be written"),
    ],
)
def test_options_that_do_not_fit(options: tuple[str, ...], words: str, listed: str, withstand: Command) -> None:
    done = withstand("verify", *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.complaint


def test_questions_are_written_and_answered(withstand: Command) -> None:
    question = ("digits-cnn-cert", "--data", "digits", "--threat", "linf:0.02", "--limit", "1")
    done = withstand("verify", *question, "--export", "out", "--budget", "50")
    assert done.code == 0, done.err
    assert done.out.startswith("out/instances.csv: 1 questions; 0 samples")
    assert (Path("out") / "model.onnx").is_file()
    answered = withstand("verify", "--instances", "out/instances.csv")
    assert answered.code == 0, answered.err
    assert "1 of 1 solved" in answered.out
    refused = withstand("verify", *question[:3], "--export", "out")
    assert (refused.code, refused.out) == (2, "")
    assert "--export" in refused.complaint
