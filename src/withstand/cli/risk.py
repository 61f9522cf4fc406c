"""`withstand risk`: how large the mean loss can become over distributions near the data."""

from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, print_json, print_table
from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.auditing.risk import Risk


def risk(
    model: options.Model,
    data: options.Data,
    rho: Annotated[
        str,
        typer.Option(
            "--rho", metavar="R,R,...", help="Transport costs: mean squared l2 distances that the data may move."
        ),
    ],
    gamma: Annotated[
        str | None,
        typer.Option("--gamma", metavar="G,G,...", help="Prices of a unit of cost to try; some are, unless given."),
    ] = None,
    limit: options.Limit = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Bound the mean cross-entropy over all distributions within a transport cost of the data.

    From below by a distribution that is found, from above by a certificate where the network is smooth enough; what
    is neither is called an estimate.
    """
    import withstand

    with only_results_on_stdout():
        found = withstand.risk(
            model, data, _numbers(rho), gamma=None if gamma is None else _numbers(gamma), limit=limit, device=device
        )
    if json:
        print_json(found.to_json())
    else:
        _print(found)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r} is no list of numbers; write them as 0.01,0.1.") from None


def _print(found: "Risk") -> None:
    rows = [(b.rho, b.reached, b.certified, b.estimate) for b in found.bounds]
    print_table(("rho", "reached", "certified", "estimate"), rows)
    typer.echo("")
    typer.echo(f"The mean cross-entropy of the {found.n} samples themselves is {found.clean:.4g}.")
    if found.smooth is None:
        typer.echo(f"Nothing can be certified: {found.why}")
    else:
        typer.echo(
            f"Certificates need gamma above {found.smooth / 2:.4g}: the loss is proved to turn no faster than "
            f"{found.smooth:.4g} anywhere; at the samples it turns about {found.sharpest:.4g} fast."
        )
