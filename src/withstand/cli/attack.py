"""`withstand attack`: only the upper end, by the attacks you name."""

from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json, print_table
from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.auditing.attacking import Attacked


def attack(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    attacks: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            metavar="NAME[:P=V,...]",
            help="An attack, pgd unless given; repeat it, or separate names by commas.",
        ),
    ] = None,
    limit: options.Limit = None,
    budget: options.BudgetText = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    property: options.Property = "argmax",
    json: options.Json = False,
) -> None:
    """Attack by the methods you name; nothing is proved.

    Each attack sees every sample that is right when clean. `--budget` is the time that each one may take. A comma
    separates attacks unless NAME=VALUE follows: `pgd:steps=100,restarts=5,square` names two.
    """
    import withstand

    named = ["pgd"] if attacks is None else options.split_methods(attacks)
    if not named:
        raise InputError("--attack names no attack; write for example --attack pgd:steps=100,restarts=5.")
    with only_results_on_stdout():
        result = withstand.attack(
            model, data, threat, named, property=property, limit=limit, budget=budget, seed=seed, device=device
        )
    if json:
        print_json(result.to_json())
    else:
        _print(result)


def _print(result: "Attacked") -> None:
    columns = ("attack", "attacked accuracy", "median distance", "forward passes", "gradients", "seconds")
    rows = [
        (name, percent(a.attacked_accuracy), a.median_distance, a.queries, a.gradients, a.seconds)
        for name, a in result.attacks.items()
    ]
    print_table(columns, rows)
    typer.echo("")
    typer.echo(
        f"Clean accuracy {percent(result.clean_accuracy)}; at most {percent(result.attacked_accuracy)} of {result.n} "
        "samples are robust, after every attack's replayed witnesses."
    )
