"""`withstand harden`: train a model against a threat, and say what was gained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, print_json

if TYPE_CHECKING:
    pass


def harden(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="NAME[:P=V,...]", help="The objective; the rest is chosen by the data, and printed."
        ),
    ] = "pgd",
    additions: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME[:P=V,...]", help="Something added to the objective; may be repeated."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="DATA", help="Held-out samples; a part of the data unless given."),
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option("--unlabelled", metavar="DATA", help="More inputs, without labels.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes over the data.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, metavar="N", help="Rows of one step.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", metavar="R", help="The largest learning rate.")] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Start from new weights instead of those the model has.")
    ] = False,
    precision: Annotated[
        str, typer.Option("--precision", metavar="P", help="32, or mixed with bf16 or fp16; attacks always use 32.")
    ] = "32",
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Held-out samples audited before and after.")
    ] = 500,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run folder; one below ./runs unless given.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training that the run folder holds.")
    ] = False,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Train a model to withstand a threat, and audit it before and after.

    The best weights by accuracy under attack on validation samples are kept, and the last ones. The run folder holds
    both, as ONNX too where the model can be captured, with the curves, two audits, a model card and a report.
    """
    import withstand

    with only_results_on_stdout():
        result = withstand.harden(
            model,
            data,
            threat,
            recipe=recipe,
            additions=additions or (),
            test=test,
            unlabelled=unlabelled,
            epochs=epochs,
            batch=batch,
            rate=rate,
            scratch=scratch,
            precision=precision,
            limit=limit,
            out=out,
            resume=resume,
            seed=seed,
            device=device,
            say=lambda line: typer.echo(line, err=True),
        )
        withstand.report(result.run_dir)
    if json:
        print_json(result.to_json())
    else:
        _print(result)
    if result.state == "partial":
        raise typer.Exit(130)
