"""Every registered attack, universal ones too, runs from the command line in every threat it declares."""

import pytest
from commands import Command
from quick import QUICK

from withstand.core.registry import components

THREATS = {
    "linf": "linf:0.1",
    "l2": "l2:1",
    "l1": "l1:3",
    "l0": "l0:5",
    "patch": "patch:3x3",
    "flow": "flow:0.5",
    "spatial": "spatial:30,2",
    "flow+linf": "flow+linf:0.3,0.05",
}
"""Norms to threats; boxes come from VNN-LIB files alone."""

KINDS = ("attack", "universal")
FIGURES = {"attacked_accuracy", "median_distance", "queries", "gradients", "cpu_seconds", "seconds"}


def able(kind: str, norm: str) -> list[str]:
    """The attacks of a kind that declare a norm, with small parameters."""
    return [QUICK.get(name, name) for name, cls in components(kind).items() if norm in cls.norms]


def test_the_threats_are_those_of_all_attacks() -> None:
    declared = {norm for kind in KINDS for cls in components(kind).values() for norm in cls.norms}
    assert declared - {"box"} == set(THREATS)


@pytest.mark.parametrize("norm", THREATS)
def test_attacks_run_and_report(norm: str, withstand: Command) -> None:
    named, universal = able("attack", norm), able("universal", norm)
    words = [word for text in named + universal for word in ("--attack", text)]
    limit = 4 if universal else 2  # universal attacks are fitted on one half of the samples
    done = withstand(
        "attack", "digits-cnn", "--data", "digits", "--threat", THREATS[norm], "--limit", limit, *words, "--json"
    )
    assert done.code == 0, done.complaint
    told = done.json
    assert set(told) == {"n", "clean_accuracy", "attacked_accuracy", "attacks"} | (
        {"universal"} if universal else set()
    )
    assert told["n"] == 2
    assert list(told["attacks"]) == named + universal
    assert list(told.get("universal", {})) == universal
    for figures in told["attacks"].values():
        assert set(figures) == FIGURES
        assert figures["queries"] >= 1
        assert told["attacked_accuracy"] <= figures["attacked_accuracy"] <= told["clean_accuracy"]
        assert (figures["median_distance"] is None) == (figures["attacked_accuracy"] == told["clean_accuracy"])


def test_attacks_by_labels_need_no_more(withstand: Command) -> None:
    named = [QUICK.get(name, name) for name, cls in components("attack").items() if str(cls.access) == "labels"]
    l2 = [text for text in able("attack", "l2") if text in named]
    assert l2
    question = ("attack", "digits-cnn", "--data", "digits", "--threat", "l2:1", "--limit", "2")
    words = [word for text in l2 for word in ("--attack", text)]
    told = withstand(*question, *words, "--access", "labels", "--json").json
    assert all(figures["gradients"] == 0 for figures in told["attacks"].values())


def test_all_of_them_are_listed(withstand: Command) -> None:
    listed = {(one["kind"], one["name"]) for one in withstand("ls", "attacks", "--json").json["methods"]}
    assert listed == {(kind, name) for kind in KINDS for name in components(kind)}
    shown = withstand("ls", "attacks").out
    assert all(name in shown for _, name in listed)
