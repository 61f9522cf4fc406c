"""`withstand check`: compute again what a run folder, or a certificate, claims."""

from pathlib import Path
from typing import Annotated

import typer

from withstand.cli.options import Json
from withstand.cli.output import only_results_on_stdout, print_json
from withstand.core.errors import InputError


def check(
    path: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="A run folder, or a certificate.", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="The certificate's ONNX file, or the model of a run in memory."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="The data, where the run was on arrays in memory.")
    ] = None,
    json: Json = False,
) -> None:
    """Compute again what a run folder or a certificate claims.

    Of a run, figures are counted again, witnesses replayed, and proofs repeated in float64. Of a certificate, every
    bound is computed again by the independent checker. Exit code 1 when something does not hold.
    """
    if path.is_file():
        _certificate(path, model, data, json)
        return
    import withstand

    with only_results_on_stdout():
        result = withstand.check(path, model, data)
    if json:
        print_json(result.to_json())
    else:
        for failure in result.failures:
            typer.echo(typer.style("fail", fg="red") + f"  {failure}")
        verdict = "everything holds" if result.ok else f"{len(result.failures)} things do not hold"
        typer.echo(f"{result.samples} samples, {result.witnesses} witnesses, {result.proofs} proofs: {verdict}.")
    if not result.ok:
        raise typer.Exit(1)


def _certificate(path: Path, model: str | None, data: str | None, json: bool) -> None:
    from withstand.checker.check import check as check_certificate

    if model is None or data is not None:
        raise InputError(f"{path} is a file; to check it as a certificate name its network, as in --model net.onnx.")
    report = check_certificate(path, model)
    if json:
        print_json(report.to_json())
    else:
        typer.echo(report.sentence if report.holds else typer.style("fail", fg="red") + f"  {report.sentence}")
    if not report.holds:
        raise typer.Exit(1)
