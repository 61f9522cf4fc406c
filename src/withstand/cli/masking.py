"""`withstand masking`: is it the model that withstands, or are the attacks misled?"""

from typing import Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, print_json
from withstand.cli.results import print_checks


def masking(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Only the first N samples.")] = 256,
    surrogate: Annotated[
        str | None,
        typer.Option(
            "--surrogate", metavar="MODEL", help="An independent model, whose adversarial examples are tried on it."
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Steps of PGD.")] = 50,
    queries: Annotated[
        int, typer.Option("--queries", min=1, metavar="N", help="Queries a sample of each attack without gradients.")
    ] = 1000,
    seed: options.Seed = 0,
    property: options.Property = "argmax",
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Look for signs that gradients are masked, so that attacks fail on a model that is not robust.

    Each finding passes, warns or fails with its numbers, or says why it does not apply.
    Exit code 1 when one fails: the attacked accuracy of this model is then no measure of its robustness.
    """
    import withstand
    from withstand.auditing.masking.check import suspected

    with only_results_on_stdout():
        checks = withstand.masking(
            model,
            data,
            threat,
            property,
            limit=limit,
            surrogate=surrogate,
            steps=steps,
            queries=queries,
            seed=seed,
            device=device,
        )
        failed = suspected(checks)
    if json:
        print_json({"suspected": bool(failed), "checks": [check.model_dump(mode="json") for check in checks]})
    else:
        print_checks(checks)
        typer.echo("")
        typer.echo(f"masking suspected: {', '.join(failed)}" if failed else "no finding speaks of masked gradients")
    if failed:
        raise typer.Exit(1)
