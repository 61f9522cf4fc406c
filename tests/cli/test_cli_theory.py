"""`withstand theory`: figures, tables, and what it refuses."""

import pytest
from commands import Command

MODEL = ("digits-cnn", "--data", "digits:train", "--limit", "50", "--draws", "2", "--sigma", "0.03,0.1")


def test_figures_of_a_model(withstand: Command) -> None:
    done = withstand("theory", *MODEL)
    assert done.code == 0, done.err
    assert "weight correlation" in done.out
    assert "vacuous" in done.out
    assert "Every bound on 50 samples is vacuous" in done.out


def test_a_bound_that_says_something(withstand: Command) -> None:
    done = withstand(
        "theory", "digits-cnn", "--data", "digits", "--initial", "digits-cnn", "--sigma", "0.003", "--draws", "20"
    )
    assert done.code == 0, done.err
    assert "networks drawn so err on at most 0." in done.out
    assert "vacuous" not in done.out


def test_a_bound_on_the_robust_error(withstand: Command) -> None:
    network = ("digits-cnn-cert", "--data", "digits", "--initial", "digits-cnn-cert")
    done = withstand("theory", *network, "--sigma", "0.003", "--draws", "10", "--threat", "linf:0.05")
    assert done.code == 0, done.err
    assert "err or may be led astray over linf:0.05 on at most 0." in done.out


def test_figures_as_json(withstand: Command) -> None:
    done = withstand("theory", *MODEL, "--json")
    assert done.code == 0, done.err
    told = done.json
    assert [layer["neurons"] for layer in told["layers"]] == [16, 32, 64, 10]
    assert [entry["sigma"] for entry in told["pac_bayes"]] == [0.03, 0.1]
    assert {bound["name"] for bound in told["pac_bayes"][0]["bounds"]} == {"McAllester", "Maurer", "Catoni"}
    assert all(bound["vacuous"] is True for bound in told["pac_bayes"][0]["bounds"])


def test_an_experiment(withstand: Command) -> None:
    done = withstand("theory", "--experiment", "schmidt-gaussian")
    assert done.code == 0, done.err
    assert "n robust" in done.out
    rows = withstand("theory", "--experiment", "schmidt-bernoulli", "--json").json["rows"]
    assert {row["n thresholded"] for row in rows} == {1}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--experiment"),
        (("digits-cnn",), "training data"),
        (("--experiment", "schmidt"), "schmidt-"),
        (("digits-cnn", "--experiment", "schmidt-gaussian"), "leave these out"),
        (("--experiment", "schmidt-gaussian", "--limit", "3"), "leave these out"),
        (("digits-cnn", "--data", "digits", "--sigma", "0"), "sigma is 0"),
        (("digits-cnn", "--data", "digits", "--sigma", "x"), "not a number"),
        (("digits-cnn", "--data", "digits", "--delta", "2"), "delta is 2"),
        (("digits-cnn", "--data", "digits", "--threat", "linf"), "linf"),
        (("digits-cnn", "--data", "digits", "--limit", "5", "--draws", "1"), "8 or more"),
    ],
)
def test_what_cannot_be_used_ends_with_one_sentence(words: tuple[str, ...], told: str, withstand: Command) -> None:
    done = withstand("theory", *words)
    assert done.code == 2
    assert done.out == ""
    assert told in done.complaint
