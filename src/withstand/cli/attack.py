"""`withstand attack`: only the upper end, by the attacks you name."""

from typing import TYPE_CHECKING

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json, print_table
from withstand.cli.progress import progress
from withstand.cli.results import print_alarms
from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.auditing.attacked import Attacked


def attack(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    attacks: options.Attacks = None,
    limit: options.Limit = None,
    budget: options.BudgetText = None,
    queries: options.Queries = None,
    access: options.Access = "gradient",
    eot: options.Draws = 1,
    surrogate: options.Surrogate = None,
    train: options.Train = None,
    closest: options.Closest = False,
    radii: options.Radii = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    property: options.PropertyOrTargets = "argmax",
    json: options.Json = False,
) -> None:
    """Attack by the methods you name; nothing is proved.

    Each attack sees every sample that is right when clean. `--budget` is the time that each one may take. A comma
    separates attacks unless NAME=VALUE follows: `pgd:steps=100,restarts=5,square` names two. With `--out` the same
    command again resumes the run, and Ctrl-C leaves a valid partial run.
    """
    import withstand

    named = ["pgd"] if attacks is None else options.split_methods(attacks)
    if not named:
        raise InputError("--attack names no attack; write for example --attack pgd:steps=100,restarts=5.")
    with only_results_on_stdout(), progress() as tell:
        result = withstand.attack(
            model,
            data,
            threat,
            named,
            property=property,
            limit=limit,
            budget=budget,
            queries=queries,
            access=access,
            eot=eot,
            surrogate=surrogate,
            train=train,
            closest=closest,
            radii=() if radii is None else options.numbers(radii),
            out=out,
            seed=seed,
            device=device,
            progress=tell,
        )
    if json:
        print_json(result.to_json())
    else:
        _print(result, train, property)
    if result.ended_by == "interrupt":
        raise typer.Exit(130)


def _print(result: "Attacked", train: str | None, property: str) -> None:
    columns = ("attack", "attacked accuracy", "median distance", "forward passes", "gradients", "seconds")
    rows = [
        (name, percent(a.attacked_accuracy), a.median_distance, a.queries, a.gradients, a.seconds)
        for name, a in result.attacks.items()
    ]
    print_table(columns, rows)
    typer.echo("")
    from withstand.core.tally import named_right

    typer.echo(f"Clean accuracy {percent(result.clean_accuracy)}; {_upper(result)}")
    if property.startswith("not-class"):
        typer.echo(f"When clean, {percent(named_right(result.samples))} of the samples are told their own class.")
    if result.ended_by == "interrupt" and result.run_dir is not None:
        from withstand.reporting.run import read_run
        from withstand.reporting.words import incomplete

        typer.echo(incomplete(read_run(result.run_dir)))
    if result.ended_by == "time":
        typer.echo(f"{sum(bool(s.cut) for s in result.samples)} samples: the time was over before every attack ended.")
    for name, u in result.universal.items():
        typer.echo(
            f"{name}: fitted on {u.fitted_on} other samples{'' if train else ', the first half of the data'}, in "
            f"{u.epochs} epochs and {u.seconds:.1f} s; it changes the model's class on {percent(u.fooling_rate)} of "
            f"the samples measured, on {percent(u.fitted_fooling_rate)} of those it was fitted on."
        )
    if result.curve is not None:
        typer.echo("")
        points = [(point["radius"], percent(point["attacked_accuracy"])) for point in result.curve]
        print_table(("radius", "attacked accuracy"), points)
    print_alarms(result.alarms)
    if result.run_dir is not None:
        typer.echo(f"run folder: {result.run_dir}")


def _upper(result: "Attacked") -> str:
    """What the attacks say of the robust share."""
    if result.attacked_accuracy is None:
        return f"the upper end is not measured: no attack came to look at some of the {result.n} samples."
    share = percent(result.attacked_accuracy)
    return (
        f"at most {share} of {result.n} samples survive all attacks; the others are refuted by replayed witnesses, or "
        "wrong when clean."
    )
