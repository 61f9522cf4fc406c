"""`withstand radius`: what it prints and keeps, and what it says of bad input."""

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command

import withstand as library
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.io.models import load_model

ASK = ("radius", "net.onnx", "--data", "data.npz", "--threat", "linf:0.2", "--method", "crown", "--tolerance", "0.1")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network of 6 inputs, net.onnx, and 70 samples with the labels that it gives them, data.npz."""
    home = tmp_path_factory.mktemp("net")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)).eval()
    (home / "net.onnx").write_bytes(load_model(net, (6,)).onnx_bytes())
    x = torch.rand(70, 6)
    np.savez(home / "data.npz", x=x.numpy(), y=net(x).argmax(1).numpy())
    return home


@pytest.fixture(autouse=True)
def here(files: Path, tmp_path: Path) -> None:
    """Both files in the empty folder where commands run."""
    for name in ("net.onnx", "data.npz"):
        shutil.copy(files / name, tmp_path)


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_both_ends_are_told_and_kept(withstand: Command) -> None:
    done = withstand(*ASK, "--limit", "4", "--out", "radii.csv", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert sum(told["counts"].values()) == told["n"] == len(told["samples"]) == 4
    right = [sample for sample in told["samples"] if sample["status"] != "invalid"]
    assert right
    for sample in right:
        assert 0 < sample["proved"] < (sample["refuted"] or math.inf)
        assert sample["proved_by"] == "crown"
    last = {int(row["id"]): row for row in rows_of("radii.csv")}
    for sample in right:
        kept = last[sample["id"]]
        assert float(kept["proved"]) == sample["proved"]
        assert (float(kept["refuted"]), kept["status"]) == (sample["refuted"] or math.inf, sample["status"])
        assert kept["reason"] == sample["reason"] == ("crown came to its end" if sample["status"] == "open" else "")


def test_the_radii_agree_with_verify_and_attack(withstand: Command) -> None:
    told = withstand(*ASK, "--limit", "3", "--json").json
    for side, radius in (("proved", min(s["proved"] for s in told["samples"])), ("refuted", 0.2)):
        question = ("net.onnx", "--data", "data.npz", "--threat", f"linf:{radius}", "--limit", "3", "--json")
        if side == "proved":
            counts = withstand("verify", *question, "--method", "crown").json["counts"]
            assert counts["proved"] == 3
        else:
            found = withstand("attack", *question, "--attack", "worst")
            assert found.json["attacked_accuracy"] <= sum(s["refuted"] is None for s in told["samples"]) / 3 + 1e-9


def test_the_table_and_the_sentence(withstand: Command) -> None:
    few = withstand(*ASK, "--limit", "2")
    assert few.code == 0, few.err
    assert few.out.splitlines()[0].split()[:4] == ["sample", "proved", "refuted", "status"]
    assert "clean accuracy 100.00 %" in few.out
    many = withstand(*ASK, "--limit", "21")
    assert many.out.splitlines()[0].split()[:3] == ["radius", "certified", "accuracy"]
    lines = many.out.split("\n\n")[0].replace("%", "").splitlines()[1:]
    shares = [[float(cell) for cell in line.split()] for line in lines]
    assert all(certified <= attacked for _, certified, attacked in shares)
    for column in (1, 2):
        assert [line[column] for line in shares] == sorted((line[column] for line in shares), reverse=True)


def test_what_is_in_the_file_is_not_asked_again(withstand: Command) -> None:
    first = withstand(*ASK, "--limit", "3", "--out", "radii.csv", "--json").json
    kept = Path("radii.csv").read_text("utf-8")
    again = withstand(*ASK, "--limit", "3", "--out", "radii.csv", "--json").json
    assert Path("radii.csv").read_text("utf-8") == kept
    assert again["samples"] == first["samples"]
    more = withstand(*ASK, "--limit", "4", "--out", "radii.csv", "--json").json
    assert more["samples"][:3] == first["samples"]
    assert Path("radii.csv").read_text("utf-8").startswith(kept)


def test_a_killed_run_goes_on(tmp_path: Path, withstand: Command) -> None:
    command = [sys.executable, "-c", "from withstand.cli import main; main()", *ASK, "--limit", "16"]
    file = tmp_path / "radii.csv"
    running = subprocess.Popen([*command, "--out", file.name], cwd=tmp_path, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and (not file.exists() or file.read_bytes().count(b"\n") < 10):
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = rows_of(file)
    assert len(before) >= 9
    done = withstand(*ASK, "--limit", "16", "--out", file.name)
    assert done.code == 0, done.err
    after = rows_of(file)
    assert after[: len(before) - 1] == before[:-1]
    last = {row["id"]: row for row in after}
    assert len(last) == 16
    assert not any("had not ended" in row["reason"] for row in last.values())


def test_time_that_is_over_leaves_open_samples_that_are_asked_again(withstand: Command) -> None:
    told = withstand(*ASK, "--limit", "3", "--budget", "0.0001", "--out", "radii.csv", "--json").json
    assert told["counts"]["open"] == 3
    assert {sample["reason"] for sample in told["samples"]} == {"the time was over"}
    assert {sample["proved"] for sample in told["samples"]} == {0.0}
    assert {sample["refuted"] for sample in told["samples"]} == {None}
    again = withstand(*ASK, "--limit", "3", "--out", "radii.csv", "--json").json
    assert all(sample["proved"] > 0 for sample in again["samples"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--threat", "flow:0.3"), "Nothing can be proved about the threat flow:0.3"),
        (("--threat", "spatial:30,2"), "Nothing can be proved about the threat spatial:30,2"),
        (("--threat", "linf:0"), "The threat linf:0 is the sample alone"),
        (("--threat", "box"), "Threat 'box' is not understood"),
        (("--tolerance", "0"), "A tolerance of 0 is no share of a radius"),
        (("--tolerance", "1"), "A tolerance of 1 is no share of a radius"),
        (("--method", "crwn"), "There is no verifier 'crwn'; did you mean 'crown'?"),
        (("--out", "no folder/out.csv"), "cannot be written"),
    ],
)
def test_bad_input_is_told_in_one_sentence(words: tuple[str, ...], sentence: str, withstand: Command) -> None:
    done = withstand("radius", "net.onnx", "--data", "data.npz", "--threat", "linf:0.1", "--limit", "2", *words)
    assert done.code == 2
    assert sentence in done.complaint


def test_a_file_of_another_question_is_refused(withstand: Command) -> None:
    withstand(*ASK, "--limit", "1", "--out", "radii.csv")
    other = withstand(*ASK[:5], "linf:0.3", *ASK[6:], "--limit", "1", "--out", "radii.csv")
    assert other.code == 2
    assert "holds radii of another question" in other.complaint
    Path("notes.csv").write_text("to do\n", "utf-8")
    assert withstand(*ASK, "--limit", "1", "--out", "notes.csv").code == 2


def test_a_box_has_no_radius() -> None:
    x = torch.rand(2, 4)
    net = torch.nn.Linear(4, 2)
    with pytest.raises(InputError, match="has no radius; name a ball"):
        library.radius(net, (x, net(x).argmax(1)), Box(lower=torch.zeros(4), upper=torch.ones(4)))


def test_samples_that_are_wrong_and_samples_that_hold_everywhere() -> None:
    net = torch.nn.Linear(1, 2)
    net.weight.data, net.bias.data = torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 0.5])
    x, y = torch.tensor([[0.9], [0.2], [0.55]]), torch.tensor([0, 0, 0])
    found = library.radius(net, (x, y), "linf:0.3", tolerance=0.01)
    assert [sample.status for sample in found.samples] == ["proved", "invalid", "met"]
    assert found.samples[0].proved == 0.3
    assert found.samples[0].refuted == math.inf
    assert math.isnan(found.samples[1].proved)
    assert found.samples[2].proved == pytest.approx(0.05, rel=0.02)
    assert found.clean_accuracy == pytest.approx(2 / 3)
    assert found.certified_accuracy(0.2) == found.attacked_accuracy(0.2) == pytest.approx(1 / 3)
    assert float(net(found.witnesses[2][None]).diff().detach()) >= 0
    assert set(found.witnesses) == {2}
    double = library.radius(net, (x, y), "l2:0.3", double=True)
    assert double.grades == ["float64 without slack"]


def test_a_missing_radius_is_told_as_missing(withstand: Command) -> None:
    """Samples without a witness are not "broken at" the largest radius, nor is one that is wrong when clean."""
    tiny = withstand("radius", *ASK[1:5], "linf:0.0001", *ASK[6:], "--limit", "5").out
    assert "none of 5 has a witness" in tiny
    assert "broken" not in tiny
    assert "inf" not in tiny.replace("linf", "").replace("inf:", "")
    told = withstand("radius", *ASK[1:5], "linf:0.0001", *ASK[6:], "--limit", "5", "--json").json
    assert (told["mean_refuted"], told["witnessed"], told["right"], told["unattacked"]) == (None, 0, 5, 0)
    assert {sample["refuted"] for sample in told["samples"]} == {None}
    held = np.load("data.npz")
    np.savez("wrong.npz", x=held["x"][:3], y=(held["y"][:3] + 1) % 3)
    wrong = withstand("radius", "net.onnx", "--data", "wrong.npz", *ASK[4:]).out
    assert "no sample is right when clean" in wrong
    assert "nan" not in wrong
    assert wrong.splitlines()[1].split()[1:4] == ["-", "-", "invalid"]
    unseen = withstand(*ASK, "--limit", "30", "--budget", "0.000000001s").out
    assert "nothing is proved of the samples that are right; none of 30 has a witness" in unseen
    assert "(no attack came to look at 30)" in unseen
    assert "No radius is known" in unseen


def test_an_upper_end_without_attacks_is_not_measured() -> None:
    net = torch.nn.Linear(2, 2)
    x = torch.rand(3, 2)
    found = library.radius(net, (x, net(x).argmax(1)), "linf:0.3", budget=1e-9)
    assert found.unattacked == 3
    assert found.attacked_accuracy(0.1) is None
    assert (found.mean_proved, found.mean_refuted) == (0.0, None)
    mean = library.radius(net, (x, net(x).argmax(1)), "linf:0.3")
    assert mean.unattacked == 0
    refuted = [sample.refuted for sample in mean.samples if sample.refuted < math.inf]
    assert mean.mean_refuted == (pytest.approx(sum(refuted) / len(refuted)) if refuted else None)


def test_verify_says_where_no_bound_was_computed(withstand: Command) -> None:
    asked = ("verify", "net.onnx", "--data", "data.npz", "--threat", "linf:0.2", "--method", "crown", "--limit", "5")
    told = withstand(*asked, "--budget", "0.000000001s").out
    assert "5 unknown: the time was over; 5 have no bound" in told
    assert "-inf" not in told
