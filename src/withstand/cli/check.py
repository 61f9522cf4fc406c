"""`withstand check`: compute again what a run folder claims."""

from pathlib import Path
from typing import Annotated

import typer

from withstand.cli.options import Json
from withstand.cli.output import only_results_on_stdout, print_json


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.", show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The model, where the run was on one in memory.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="The data, where the run was on arrays in memory.")
    ] = None,
    json: Json = False,
) -> None:
    """Compute again what a run folder claims.

    Figures are counted again, witnesses replayed, and proofs repeated in float64. Exit code 1 when something does not
    hold.
    """
    import withstand

    with only_results_on_stdout():
        result = withstand.check(folder, model, data)
    if json:
        print_json(result.to_json())
    else:
        for failure in result.failures:
            typer.echo(typer.style("fail", fg="red") + f"  {failure}")
        verdict = "everything holds" if result.ok else f"{len(result.failures)} things do not hold"
        typer.echo(f"{result.samples} samples, {result.witnesses} witnesses, {result.proofs} proofs: {verdict}.")
    if not result.ok:
        raise typer.Exit(1)
