"""Results as a person reads them."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from withstand.cli.output import print_table

if TYPE_CHECKING:
    from withstand.core.records import Alarm, Check, Counts
    from withstand.lipschitz.constants import Constants
    from withstand.reporting.run import Run

COLOURS: dict[str, str | int | None] = {"pass": "green", "note": None, "warn": "yellow", "fail": "yellow"}
"""Outcome of a check to the colour of its word, on terminals that have colours. One colour has one meaning, there as on
the page: those of verdicts are not used for anything else."""

VERDICTS = {"proved": 32, "unknown": 74, "refuted": 166, "invalid": 245}
"""Verdict to its colour of 256, which are those of the page."""

FEW = 12
"""Classes that are listed one by one at most; of more, so many of the weakest."""


def print_checks(checks: "list[Check]") -> None:
    """One line a check: outcome, name, sentence."""
    for check in checks:
        word = typer.style(f"{check.outcome:4}", fg=COLOURS[check.outcome])
        typer.echo(f"{word}  {check.name}: {check.sentence}")


def print_counts(counts: "Counts", n: int) -> None:
    """The four verdicts with their numbers and shares."""
    names = {"proved": "proved", "refuted": "refuted", "unknown": "unknown", "invalid": "wrong when clean"}
    held = counts.model_dump()
    rows = [(names.get(k, k), v, f"{v / n:.1%}" if n else "-") for k, v in held.items()]
    print_table(("verdict", "samples", "share"), rows, [VERDICTS.get(k) for k in held])


def print_constants(found: "Constants") -> None:
    """The Lipschitz constants by method and by layer, the range of those by pair, and what is to be known of them."""
    typer.echo(f"Lipschitz constants in {found.norm}, over all inputs:")
    print_table(("method", "constant", "which is"), [(b.method, b.value, str(b.kind)) for b in found.bounds])
    typer.echo("")
    layers = [(one.name, one.inputs, one.outputs, one.norm, one.power) for one in found.layers]
    print_table(("layer", "inputs", "outputs", "norm, certified", "power method"), layers)
    typer.echo("")
    if found.pairs:
        ends = [min(found.pairs, key=lambda pair: pair.norm), max(found.pairs, key=lambda pair: pair.norm)]
        low, high = (f"{pair.norm:.4g} (outputs {pair.first} and {pair.second})" for pair in ends)
        typer.echo(f"The difference of two outputs has certified constants from {low} to {high}.")
    for note in found.notes:
        typer.echo(note)


def print_alarms(alarms: "list[Alarm]") -> None:
    """One line an alarm, or nothing."""
    for alarm in alarms:
        typer.echo(typer.style("alarm", fg="yellow", bold=True) + f"  {alarm.name}: {alarm.sentence}")


def print_run(folder: Path) -> None:
    """The result of a run folder: the doctor's remarks, the sentence, the counts, the interval, alarms and paths."""
    from withstand.core.tally import executed_words
    from withstand.reporting.run import read_run
    from withstand.reporting.threat_words import threat_in_words
    from withstand.reporting.words import headline, incomplete, population

    run = read_run(folder)
    meant = threat_in_words(run.ball, run.record.input_shape)
    print_checks([check for check in run.record.checks if check.outcome != "pass"])
    typer.echo("")
    typer.echo(typer.style(headline(run), bold=True))
    if meant:
        typer.echo(f"In this threat {meant}.")
    if run.state != "complete":
        typer.echo(typer.style(incomplete(run), fg="yellow"))
    if run.summary is not None:
        typer.echo("")
        print_counts(run.summary.counts, run.summary.n)
        typer.echo("")
        print_classes(run)
        typer.echo(population(run))
        if run.summary.executed is not None:
            typer.echo(executed_words(run.summary.executed, run.summary.counts.proved))
        print_alarms(run.summary.alarms)
    typer.echo(f"run folder: {folder}")
    page = folder / "report.html"
    if page.is_file():
        typer.echo(f"report:     {page}")
    print_steps(run)


def print_classes(run: "Run") -> None:
    """A line a class, or the weakest where there are many; nothing where labels are no classes."""
    from withstand.reporting.classes import by_class, weakest
    from withstand.reporting.words import percent

    rows = by_class(run)
    if not rows:
        return
    shown, proofs = rows if len(rows) <= FEW else weakest(rows, FEW), run.record.plan.verb == "audit"
    columns = ("class" if shown is rows else "weakest classes", "samples", "surely survive", "survive at most")
    ends = [None if r.at_most is None else percent(r.at_most / r.n, r.n, "high") for r in shown]
    lines = [(r.name, r.n, percent(r.surely / r.n, r.n, "low"), end) for r, end in zip(shown, ends, strict=True)]
    kept = (0, 1, 2, 3) if proofs else (0, 1, 3)
    print_table([columns[i] for i in kept], [[line[i] for i in kept] for line in lines])
    typer.echo("")


def print_steps(run: "Run") -> None:
    """What to do next, with commands."""
    from withstand.reporting.next_steps import next_steps

    for number, step in enumerate(next_steps(run)):
        if number == 0:
            typer.echo("")
            typer.echo("what to do next:")
        typer.echo(f"- {step.sentence}")
        if step.command:
            typer.echo(f"    {step.command}")
