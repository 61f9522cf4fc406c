"""`withstand smooth`: what it prints and keeps, that a killed run goes on, and what it says of bad input."""

import json
import os
import signal
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command

import withstand as library
from withstand.core.errors import InputError

ASK = ("smooth", "digits-cnn", "--data", "digits", "--sigma", "0.25", "--n", "300", "--limit", "6")


def lines_of(folder: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "smooth.jsonl").read_text("utf-8").splitlines()]


def timeless(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in sample.items() if name != "seconds"} for sample in samples]


def test_everything_is_told_as_json(withstand: Command) -> None:
    done = withstand(*ASK, "--radii", "0.2,1/10", "--json")
    assert done.code == 0, done.err
    told = done.json
    samples = told["samples"]
    assert told["kind"] == "statistical certificate"
    assert not {"proved", "certified", "counts"} & set(told)
    assert told["n"] == len(samples) == 6
    assert all(sum(sample["counts"].values()) == 300 for sample in samples)
    right = [sample for sample in samples if sample["answer"] == sample["label"]]
    assert told["clean_accuracy"] == len(right) / 6
    assert told["average_radius"] == pytest.approx(sum(sample["radius"] for sample in right) / 6)
    assert [point["radius"] for point in told["curve"]] == [0.1, 0.2]
    for point in told["curve"]:
        assert point["certified"] == sum(sample["radius"] > point["radius"] for sample in right) / 6
    assert all(sample["radius"] <= told["cap"] for sample in samples)
    assert told["abstained"] == sum(sample["answer"] is None for sample in samples)
    assert told["together"] == pytest.approx(0.994)


def test_the_page_and_the_sentences_say_what_it_is(withstand: Command) -> None:
    done = withstand(*ASK, "--out", "run")
    assert done.code == 0, done.err
    assert "statistical certificate of the smoothed model, not of the model below it, and no proof" in done.out
    cap = f"{0.25 * NormalDist().inv_cdf(0.001 ** (1 / 300)):.4g}"
    assert f"no radius can exceed the cap {cap}" in done.out
    for word in ("proved", "proven"):
        assert word not in done.out
    page = Path("run/report.html").read_text("utf-8")
    assert f"cap: {cap}" in page
    assert "Statistical certificate." in page


def test_predictions_have_no_radii(withstand: Command) -> None:
    told = withstand(*ASK, "--predict", "--json").json
    assert (told["cap"], told["average_radius"], told["curve"]) == (None, None, [])
    assert all(sample["radius"] is None and 0 <= sample["p_value"] <= 1 for sample in told["samples"])
    shown = withstand(*ASK, "--predict")
    assert "p-value" in shown.out
    assert "radius" not in shown.out


def test_results_do_not_depend_on_batch_limit_or_folder(withstand: Command) -> None:
    plain = timeless(withstand(*ASK, "--json").json["samples"])
    assert timeless(withstand(*ASK, "--batch", "4096", "--json").json["samples"]) == plain
    assert timeless(withstand(*ASK, "--out", "run", "--json").json["samples"]) == plain
    assert timeless(withstand(*ASK[:-1], "4", "--json").json["samples"]) == plain[:4]
    assert timeless(withstand(*ASK, "--seed", "1", "--json").json["samples"]) != plain


@pytest.mark.parametrize("cut", [*(pytest.param(cut, marks=pytest.mark.slow) for cut in (0, 1)), 60, 10_000])
def test_a_torn_file_is_gone_on_with(cut: int, withstand: Command) -> None:
    whole = withstand(*ASK, "--out", "run", "--json").json
    file = Path("run/smooth.jsonl")
    content = file.read_bytes()
    kept = content[: max(0, len(content) - cut)]
    file.write_bytes(kept)
    again = withstand(*ASK, "--out", "run", "--json").json
    assert timeless(again["samples"]) == timeless(whole["samples"])
    assert timeless(lines_of("run")) == timeless(whole["samples"])
    assert file.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])


def smooth_until_killed(out: Path) -> None:
    def kill(event: Any) -> None:
        if event.done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    library.smooth("digits-cnn", "digits", sigma=0.25, n=300, limit=6, out=out, progress=kill)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, withstand: Command) -> None:
    file = tmp_path / "run" / "smooth.jsonl"
    running = get_context("forkserver").Process(target=smooth_until_killed, args=(file.parent,))
    running.start()
    running.join()
    assert running.exitcode == -signal.SIGKILL
    before = file.read_bytes()
    assert before.count(b"\n") == 3
    resumed, whole = withstand(*ASK, "--out", "run", "--json").json, withstand(*ASK, "--json").json
    assert file.read_bytes().startswith(before)
    assert timeless(resumed["samples"]) == timeless(whole["samples"])
    assert resumed["state"] == "complete"


def test_ctrl_c_leaves_a_valid_partial_run(tmp_path: Path) -> None:
    def interrupt(event: Any) -> None:
        if event.done == 2:
            raise KeyboardInterrupt

    found = library.smooth("digits-cnn", "digits", sigma=0.25, n=300, limit=5, out=tmp_path / "run", progress=interrupt)
    assert (found.state, found.n, len(found.samples)) == ("partial", 2, 2)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "PARTIAL" in page
    assert "2 of 5 samples are settled" in page


def test_other_radii_draw_another_curve_from_the_same_samples(withstand: Command) -> None:
    withstand(*ASK, "--out", "run", "--radii", "0.1")
    before = Path("run/smooth.jsonl").read_bytes()
    told = withstand(*ASK, "--out", "run", "--radii", "0.3", "--json").json
    assert Path("run/smooth.jsonl").read_bytes() == before
    assert [point["radius"] for point in told["curve"]] == [0.3]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--sigma", "0.5"), "holds a run with sigma 0.25, not 0.5"),
        (("--n", "301"), "holds a run with draws 300, not 301"),
        (("--predict",), "holds a run with mode 'certify', not 'predict'"),
    ],
)
def test_a_folder_of_another_run_is_refused(words: tuple[str, ...], sentence: str, withstand: Command) -> None:
    withstand(*ASK, "--out", "run")
    done = withstand(*ASK, *words, "--out", "run")
    assert done.code == 2
    assert sentence in done.complaint


def test_a_folder_of_an_audit_is_refused(run: Path, withstand: Command) -> None:
    done = withstand(*ASK, "--out", run)
    assert done.code == 2
    assert "holds a run of proofs or attacks" in done.complaint


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--sigma", "0"), "Noise of sigma 0 smooths nothing"),
        (("--alpha", "1"), "alpha, is 1; give one between 0 and 1"),
        (("--n", "0"), "n is 0"),
        (("--n", "5"), "give n=10 or more"),
        (("--radii", "0.1,x"), "'x' in '0.1,x' is not a number"),
        (("--radii", "-1"), "must be zero or positive numbers"),
        (("--predict", "--radii", "0.1"), "Predictions have no radii"),
        (("--data", "plain.npz[x]"), "plain.npz"),
        (("--data", "values.npz"), "whole numbers"),
        (("--device", "nowhere"), "The device 'nowhere' cannot be used"),
    ],
)
def test_bad_input_is_told_in_one_sentence(words: tuple[str, ...], sentence: str, withstand: Command) -> None:
    x = np.zeros((3, 1, 8, 8), "f4")
    np.savez("plain.npz", x=x)
    np.savez("values.npz", x=x, y=np.array([0.5, 1.5, 2.5], "f4"))
    done = withstand(*ASK, *words)
    assert done.code == 2
    assert done.out == ""
    assert sentence in done.complaint


def test_samples_without_labels_and_models_without_classes_are_refused() -> None:
    x = torch.rand(2, 4)
    with pytest.raises(InputError, match="compares outputs with targets"):
        library.smooth(torch.nn.Linear(4, 2), x, sigma=0.1)
    with pytest.raises(InputError, match="no logits of 2 classes or more"):
        library.smooth(torch.nn.Linear(4, 1), (x, torch.zeros(2, dtype=torch.long)), sigma=0.1)
