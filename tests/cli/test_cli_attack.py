"""`withstand attack` as a person types it."""

from pathlib import Path

import pytest
from commands import HARD, Command


def test_a_run_is_kept_and_its_figures_are_exact(withstand: Command) -> None:
    asked = ("attack", *HARD, "--attack", "pgd:steps=5,fgsm", "--radii", "1/20,0.2", "--out", "runs/a", "--json")
    told = withstand(*asked).json
    assert set(told) == {"n", "clean_accuracy", "attacked_accuracy", "attacks", "curve"}
    figures = {"attacked_accuracy", "median_distance", "queries", "gradients", "cpu_seconds", "seconds"}
    assert all(set(one) == figures for one in told["attacks"].values())
    assert [point["radius"] for point in told["curve"]] == [0.05, 0.2]
    assert withstand(*asked).json == told, "the same command finds its run again"
    assert {file.name for file in Path("runs/a").iterdir()} >= {"run.json", "samples.jsonl", "witnesses", "report.html"}
    assert withstand("check", "runs/a").code == 0
    assert withstand("replay", next(Path("runs/a/witnesses").glob("*.npz"))).code == 0
    assert withstand("ls", "--json").json["runs"][0]["path"] == "runs/a"


def test_the_nearest_is_told_to_a_person(withstand: Command) -> None:
    done = withstand("attack", *HARD, "--attack", "pgd:steps=5", "--closest", "--queries", "60")
    assert done.code == 0
    assert "median distance" in done.out


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (("--attack", "pgdd"), "did you mean 'pgd'"),
        (("--attack", "pgd:steps=0"), "steps"),
        (("--attack", "stadv"), "works for"),
        (("--access", "labels"), "labels"),
        (("--access", "logits"), "gradient, scores, labels"),
        (("--surrogate", "absent.onnx"), "absent.onnx"),
        (("--radii", "0.1,x"), "is not a number"),
        (("--radii", "0"), "positive"),
        (("--property", "top-k:10"), "choose a k from 1 to 9"),
        (("--property", "no_such:Thing"), "no_such"),
        (("--property", "all-targets", "--radii", "0.1"), "one property at a time"),
    ],
)
def test_one_sentence_says_what_is_wrong(extra: tuple[str, ...], word: str, withstand: Command) -> None:
    done = withstand("attack", *HARD, *extra)
    assert (done.code, done.out) == (2, "")
    assert word in done.complaint
