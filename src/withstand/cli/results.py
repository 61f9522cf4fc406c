"""Results as a person reads them."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from withstand.cli.output import print_table

if TYPE_CHECKING:
    from withstand.core.records import Alarm, Check, Counts
    from withstand.lipschitz.constants import Constants

COLOURS = {"pass": "green", "note": "blue", "warn": "yellow", "fail": "red"}
"""Outcome of a check to the colour of its word, on terminals that have colours."""


def print_checks(checks: "list[Check]") -> None:
    """One line a check: outcome, name, sentence."""
    for check in checks:
        word = typer.style(f"{check.outcome:4}", fg=COLOURS[check.outcome])
        typer.echo(f"{word}  {check.name}: {check.sentence}")


def print_counts(counts: "Counts", n: int) -> None:
    """The four verdicts with their numbers and shares."""
    names = {"proved": "proved", "refuted": "refuted", "unknown": "unknown", "invalid": "wrong when clean"}
    rows = [(names[k], v, f"{v / n:.1%}" if n else "-") for k, v in counts.model_dump().items()]
    print_table(("verdict", "samples", "share"), rows)


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
        typer.echo(typer.style("alarm", fg="red", bold=True) + f"  {alarm.name}: {alarm.sentence}")


def print_run(folder: Path) -> None:
    """The result of a run folder: the doctor's remarks, the sentence, the counts, the interval, alarms and paths."""
    from withstand.reporting.run import read_run
    from withstand.reporting.words import headline, incomplete, population

    run = read_run(folder)
    print_checks([check for check in run.record.checks if check.outcome != "pass"])
    typer.echo("")
    typer.echo(typer.style(headline(run), bold=True))
    if run.state != "complete":
        typer.echo(typer.style(incomplete(run), fg="yellow"))
    if run.summary is not None:
        typer.echo("")
        print_counts(run.summary.counts, run.summary.n)
        typer.echo("")
        typer.echo(population(run))
        print_alarms(run.summary.alarms)
    typer.echo(f"run folder: {folder}")
    page = folder / "report.html"
    if page.is_file():
        typer.echo(f"report:     {page}")
