"""`withstand theory`: what can be said of errors on unseen data."""

from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, print_json, print_table
from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.auditing.theory import Theory
    from withstand.generalisation.bound import Table


Initial = Annotated[
    str | None,
    typer.Option("--initial", metavar="MODEL", help="The network before training: the prior's mean, else 0."),
]
Threat = Annotated[
    str | None,
    typer.Option(
        "--threat", metavar="THREAT", help="Bound the robust error: what interval bounds do not prove is an error."
    ),
]
Sigma = Annotated[
    str | None,
    typer.Option("--sigma", metavar="S,S,...", help="Spreads of the weights to try, 0.01,0.03,0.1 unless given."),
]
Delta = Annotated[
    float, typer.Option("--delta", metavar="D", help="The chance that a bound may fail, shared by all sigmas.")
]
Draws = Annotated[
    int, typer.Option("--draws", min=1, metavar="N", help="Networks drawn at each sigma to estimate their error.")
]
Experiment = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        metavar="NAME",
        help="A table in place of a model: schmidt-gaussian, schmidt-bernoulli or rademacher-linear.",
    ),
]


def theory(
    model: options.ModelOrNone = None,
    data: options.DataOrNone = None,
    initial: Initial = None,
    threat: Threat = None,
    sigma: Sigma = None,
    delta: Delta = 0.05,
    draws: Draws = 100,
    experiment: Experiment = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Tell weight correlation and PAC-Bayes bounds of a model, from its training data; or do an experiment of theory.

    The bounds hold for networks whose weights are drawn around the model's, on data from where the training data came
    from. A bound of 1 or more is called vacuous: it says nothing.
    """
    if experiment is not None:
        if not (model is data is initial is threat is sigma is limit is None):
            raise InputError("--experiment takes no model, data or options of a model; leave these out.")
        from withstand.generalisation.experiments import experiment as run

        with only_results_on_stdout():
            table = run(experiment)
        print_json(table.to_json()) if json else _print_table(table)
        return
    if model is None or data is None:
        raise InputError("Name a model and its training data, MODEL --data DATA, or an --experiment.")
    import withstand
    from withstand.auditing.theory import SIGMAS

    with only_results_on_stdout():
        found = withstand.theory(
            model,
            data,
            initial=initial,
            threat=threat,
            sigmas=SIGMAS if sigma is None else options.numbers(sigma),
            delta=delta,
            draws=draws,
            limit=limit,
            seed=seed,
        )
    print_json(found.to_json()) if json else _print(found)


def _print_table(table: "Table") -> None:
    typer.echo(table.title)
    print_table(table.columns, table.rows)
    for note in table.notes:
        typer.echo(note)


def _print(found: "Theory") -> None:
    columns = ("layer", "kind", "neurons", "weights each", "weight correlation", "g (nats)")
    print_table(columns, [(x.name, x.op, x.neurons, x.weights, x.rho, x.divergence) for x in found.layers])
    typer.echo(
        f"PAC-Bayes measure {found.measure:.4g} with distance {found.distance:.4g} of the weights; it ranks networks."
    )
    typer.echo("")
    names = [bound.name for bound in found.pac_bayes[0].bounds]
    rows = [
        (e.sigma, e.risk, e.risk_upper, e.kl, *(_told(b.value, b.vacuous) for b in e.bounds)) for e in found.pac_bayes
    ]
    print_table(("sigma", "drawn error", "at most", "KL (nats)", *names), rows)
    typer.echo("")
    best = found.best
    fail = "err" if found.threat is None else f"err or may be led astray over {found.threat}"
    typer.echo(
        f"Every bound on {found.n} samples is vacuous: it says nothing."
        if best.vacuous
        else f"On unseen data networks drawn so {fail} on at most {best.value:.4g} of the inputs, by {best.name}'s "
        f"bound with probability {1 - best.delta:g} over {found.n} samples."
    )
    for note in found.notes:
        typer.echo(note)


def _told(value: float, vacuous: bool) -> str:
    return f"{value:.4g} vacuous" if vacuous else f"{value:.4g}"
