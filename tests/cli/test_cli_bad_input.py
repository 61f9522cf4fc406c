"""Wrong input gets exit code 2 and one sentence with the fix, never a traceback."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import HARD, QUESTION, Command, Done, write_question

MODEL, DATA, THREAT = ("digits-cnn",), ("--data", "digits"), ("--threat", "linf:0.1")
SHAPE = (4, 1, 8, 8)


def refused(done: Done, *words: str) -> None:
    """Check one sentence on stderr that holds the words, and nothing on stdout."""
    assert done.code == 2
    assert done.out == ""
    assert done.complaint.startswith("withstand: ")
    assert done.complaint.endswith((".", "?"))
    for word in words:
        assert word in done.complaint


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("digits-cn", "did you mean"),
        ("absent.onnx", "absent.onnx"),
        ("no_such_module:make", "no_such_module"),
        ("math:no_such_factory", "no_such_factory"),
        ("math:sqrt?=3", "name=value"),
        ("weights.pkl", "weights.pkl"),
        ("broken.onnx", "broken.onnx"),
    ],
)
@pytest.mark.parametrize("verb", ["audit", "attack", "verify", "doctor"])
def test_models_that_cannot_be_read(verb: str, model: str, word: str, withstand: Command) -> None:
    Path("broken.onnx").write_bytes(b"this is no network")
    Path("weights.pkl").write_bytes(b"")
    refused(withstand(verb, model, *DATA, *THREAT), word)


@pytest.mark.parametrize(
    "threat", ["linf", "linf:", "linf:abc", "linf:1/0", "linf:-1", "l7:0.1", "linf:0.1[1,0]", "linf:inf", "0.1"]
)
@pytest.mark.parametrize("verb", ["audit", "doctor"])
def test_threats_that_do_not_parse(verb: str, threat: str, withstand: Command) -> None:
    refused(withstand(verb, *MODEL, *DATA, "--threat", threat), threat)


def save(name: str, x: np.ndarray, y: np.ndarray) -> str:
    np.savez(name, x=x, y=y)
    return name


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (np.zeros((4, 5, 7), "f4"), np.zeros(4, int), "5 x 7"),
        (np.zeros(SHAPE, "f4"), np.array([0, 1, 2, 10]), "10"),
        (np.zeros(SHAPE, "f4"), np.array([0, 1, 2, -1]), "-1"),
        (np.zeros(SHAPE, "f4"), np.zeros(3, int), "one label for each"),
        (np.full(SHAPE, np.nan, "f4"), np.zeros(4, int), "NaN"),
        (np.full(SHAPE, 3.0, "f4"), np.zeros(4, int), "domain"),
        (np.zeros((0, 1, 8, 8), "f4"), np.zeros(0, int), "no samples"),
        (np.zeros(SHAPE, "f4"), np.array(["a", "b", "c", "d"]), "words"),
        (np.zeros(SHAPE, "f4"), np.array([0, 1, 2, 0.5]), "whole numbers"),
        (np.zeros(SHAPE, "f4"), np.array([0, 1, 2, 2**63], "u8"), "9.22e+18"),
    ],
    ids=[
        "shape",
        "label-above",
        "label-below",
        "lengths",
        "nan",
        "outside-domain",
        "empty",
        "words",
        "fractions",
        "huge",
    ],
)
def test_data_that_does_not_fit(x: np.ndarray, y: np.ndarray, word: str, withstand: Command) -> None:
    refused(withstand("audit", *MODEL, "--data", save("data.npz", x, y), *THREAT), word)


FACTORIES = """
import sys
import torch


def linear():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))


class Whole(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].long()


def broken():
    net = linear()
    torch.nn.init.constant_(net[1].weight, float("nan"))
    return net


def number():
    return 3


def leave():
    sys.exit(0)


def fail():
    raise RuntimeError("no such file")
"""


@pytest.mark.parametrize(
    ("factory", "word"),
    [
        ("Whole", "int64"),
        ("broken", "holds NaN in"),
        ("number", "returned int"),
        ("leave", "SystemExit"),
        ("fail", "no such file"),
        ("linear?depth=3", "depth"),
        ("sub/linear", "without slashes"),
    ],
)
def test_factories_that_make_no_usable_model(
    factory: str, word: str, withstand: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("odd_factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "odd_factories", raising=False)
    refused(withstand("doctor", f"odd_factories:{factory}", *DATA, *THREAT), word)


@pytest.mark.parametrize("data", ["absent.npz", "digit", "data.npz[", "data.npz[a,b]", "empty/", "table.txt"])
def test_data_that_cannot_be_read(data: str, withstand: Command) -> None:
    save("data.npz", np.zeros(SHAPE, "f4"), np.zeros(4, int))
    Path("empty").mkdir()
    Path("table.txt").write_text("1,2,3")
    refused(withstand("audit", *MODEL, "--data", data, *THREAT))


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (("--budget", "soon"), "10m"),
        (("--budget", "-5s"), "10m"),
        (("--property", "argmin"), "argmax"),
        (("--property", "not-class:12"), "12"),
        (("--device", "abacus"), "abacus"),
        (("--plan", "absent.json"), "absent.json"),
        (("--save-plan", "no/such/folder/plan.json"), "plan.json"),
    ],
)
def test_options_that_do_not_fit(extra: tuple[str, ...], word: str, withstand: Command) -> None:
    refused(withstand("audit", *QUESTION, *extra), word)


@pytest.mark.parametrize(
    ("verb", "option", "text", "word"),
    [
        ("attack", "--attack", "pdg", "'pgd'"),
        ("attack", "--attack", "pgd:stps=3", "'steps'"),
        ("attack", "--attack", "pgd:steps=many", "steps"),
        ("attack", "--attack", ",", "--attack"),
        ("verify", "--method", "crwn", "'crown'"),
        ("verify", "--method", "ibp:depth=3", "depth"),
    ],
)
def test_methods_that_are_not_there(verb: str, option: str, text: str, word: str, withstand: Command) -> None:
    refused(withstand(verb, *QUESTION, option, text), word)


def test_a_folder_that_cannot_be_written(withstand: Command) -> None:
    Path("file").write_text("in the way")
    refused(withstand("audit", *QUESTION, "--out", "file/run"), "--out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(withstand: Command) -> None:
    Path("locked").mkdir(mode=0o500)
    refused(withstand("audit", *QUESTION, "--out", "locked/run"), "--out")


def test_results_that_cannot_be_written(withstand: Command) -> None:
    onnx, vnnlib = write_question(1.5)
    done = withstand("verify", "--onnx", onnx, "--vnnlib", vnnlib, "--out", "no/such/folder/answer.txt")
    refused(done, "answer.txt")


def test_a_plan_that_does_not_match_the_run_folder(run: Path, withstand: Command) -> None:
    refused(withstand("audit", *HARD, "--out", run, "--seed", "7"), "seed", "--out")


@pytest.mark.parametrize(
    "argv",
    [
        ("replay", "absent.npz"),
        ("replay", "data.npz", "--model", "net.onnx"),
        ("report", "absent"),
        ("ls", "absent"),
        ("check", "absent"),
        ("verify", "--onnx", "net.onnx"),
        ("verify", "--onnx", "absent.onnx", "--vnnlib", "absent.vnnlib"),
        ("verify",),
        ("audit",),
    ],
    ids=" ".join,
)
def test_files_and_folders_that_are_not_there(argv: tuple[str, ...], withstand: Command) -> None:
    save("data.npz", np.zeros(SHAPE, "f4"), np.zeros(4, int))
    refused(withstand(*argv))


@pytest.mark.parametrize(
    "argv",
    [("audit", *QUESTION, "--limit", "0"), ("audit", *QUESTION, "--no-such-option"), ("adit",), ("replay",)],
    ids=["limit", "option", "verb", "argument"],
)
def test_usage_errors_are_exit_2_too(argv: tuple[str, ...], withstand: Command) -> None:
    done = withstand(*argv)
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("asked", "stray"),
    [
        ((*MODEL, *DATA, *THREAT), ("--out", "out.csv")),
        ((*MODEL, *DATA, *THREAT), ("--workers", "3")),
        ((*MODEL, *DATA, *THREAT, "--export", "questions"), ("--method", "crown")),
        (("--onnx", "net.onnx", "--vnnlib", "prop.vnnlib"), ("--workers", "2")),
        (("--instances", "list.csv"), ("--method", "crown")),
    ],
)
def test_options_that_say_nothing_about_what_is_asked(
    asked: tuple[str, ...], stray: tuple[str, str], withstand: Command
) -> None:
    write_question(1.5)
    refused(withstand("verify", *asked, *stray), stray[0], "leave it out")


def test_a_path_to_check_that_is_not_there(withstand: Command) -> None:
    refused(withstand("check", "absent"), "There is no 'absent'")
