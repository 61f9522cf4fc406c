"""One name for one thing across verbs, and the former names for a while."""

import itertools
from pathlib import Path

import pytest
import typer
from commands import Command, write_question

from withstand.cli.app import app
from withstand.cli.renamed import FORMER

SYNONYMS = (
    {"workers", "jobs", "processes"},
    {"out", "results", "output"},
    {"budget", "timeout"},
    {"certificates", "certificate"},
)
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FORMERLY = [(verb, former, name) for verb, names in FORMER.items() for former, name in names.items()]


def options_of(verb: str) -> set[str]:
    return {word for parameter in VERBS[verb].params for word in (*parameter.opts, *parameter.secondary_opts)}


def test_no_two_verbs_name_the_same_thing_differently() -> None:
    every = set(itertools.chain(*map(options_of, VERBS)))
    for words in SYNONYMS:
        assert len(every & {f"--{word}" for word in words}) == 1


@pytest.mark.parametrize(("verb", "former", "name"), FORMERLY)
def test_a_former_name_stands_for_an_option_that_is_there_and_is_not_shown(
    verb: str, former: str, name: str, withstand: Command
) -> None:
    assert name in options_of(verb)
    assert former not in options_of(verb)
    assert f"{former} " not in withstand(verb, "--help").out


def test_former_names_do_the_same_and_say_what_they_are_called_now(withstand: Command) -> None:
    onnx, vnnlib = write_question(0.5)
    ask = ("verify", "--onnx", onnx, "--vnnlib", vnnlib)
    now = withstand(*ask, "--budget", "30", "--out", "now.txt", "--certificates", "now")
    then = withstand(*ask, "--timeout=30", "--results", "then.txt", "--certificate", "then")
    assert (now.code, then.code) == (0, 0)
    assert now.err == ""
    for former, name in (("--timeout", "--budget"), ("--results", "--out"), ("--certificate", "--certificates")):
        assert f"{former} is called {name} now" in then.err
    assert then.out == now.out == Path("now.txt").read_text() == Path("then.txt").read_text()
    assert sorted(p.name for p in Path("then").rglob("*")) == sorted(p.name for p in Path("now").rglob("*"))


def test_a_word_that_no_former_name_belongs_to_stays_unknown(withstand: Command) -> None:
    done = withstand("audit", "digits-cnn", "--data", "digits", "--threat", "linf:0.1", "--jobs", "2")
    assert done.code == 2
    assert "--jobs" in done.err
