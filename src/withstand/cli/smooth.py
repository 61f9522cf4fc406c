"""`withstand smooth`: what the model smoothed by noise withstands, as a statistic."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json, print_table

if TYPE_CHECKING:
    from withstand.auditing.smooth import Smoothed
    from withstand.auditing.smoothing_run import SmoothingProgress

PAUSE = 10.0
"""Seconds after which progress is told again."""

FEW = 20
"""Samples at most that are listed one by one."""


def smooth(
    model: options.Model,
    data: options.Data,
    sigma: Annotated[
        float,
        typer.Option("--sigma", metavar="S", help="Standard deviation of the noise, in the units of the data."),
    ],
    n: Annotated[int, typer.Option("--n", metavar="N", help="Noisy copies of each sample that vote.")] = 100_000,
    n0: Annotated[
        int, typer.Option("--n0", metavar="N", help="Noisy copies that choose the class to certify beforehand.")
    ] = 100,
    alpha: Annotated[
        float, typer.Option("--alpha", metavar="A", help="The chance at most that one sample's answer is false.")
    ] = 0.001,
    radii: Annotated[
        str | None,
        typer.Option("--radii", metavar="R,R,...", help="Certified accuracy at these l2 radii, as 0.25,0.5,1."),
    ] = None,
    predict: Annotated[bool, typer.Option("--predict", help="Name classes only, without radii.")] = False,
    limit: options.Limit = None,
    out: Annotated[
        options.Path | None,
        typer.Option("--out", metavar="DIR", help="Keep records and a report in this run folder, and go on there."),
    ] = None,
    seed: options.Seed = 0,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Noisy copies in a forward pass.")] = 256,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Certify l2 radii of the model smoothed by Gaussian noise; a statistic, no proof.

    The smoothed model names the class that the model names most often on noisy copies of an input. Nothing is said of
    the model itself. With `--out` the same command again goes on after an interruption.
    """
    import withstand

    with only_results_on_stdout():
        found = withstand.smooth(
            model,
            data,
            sigma=sigma,
            n=n,
            n0=n0,
            alpha=alpha,
            radii=() if radii is None else options.numbers(radii),
            predict=predict,
            limit=limit,
            out=out,
            seed=seed,
            batch=batch,
            device=device,
            progress=_Lines(),
        )
    if json:
        print_json(found.to_json())
    else:
        _print(found)
    if found.state == "partial":
        raise typer.Exit(130)


class _Lines:
    """A line on stderr for every tenth of the samples, or more often where these take long."""

    def __init__(self) -> None:
        self._tenth, self._seconds = 0, 0.0

    def __call__(self, event: "SmoothingProgress") -> None:
        tenth = 10 * event.done // event.total
        if tenth > self._tenth or event.seconds > self._seconds + PAUSE:
            self._tenth, self._seconds = tenth, event.seconds
            share = 100 * event.done // event.total
            print(f"{share:3d} % of {event.total} samples in {event.seconds:.0f} s", file=sys.stderr, flush=True)


def _print(found: "Smoothed") -> None:
    if found.state == "partial":
        typer.echo(f"Interrupted: {found.n} samples are settled; the same command with --out goes on with the others.")
    if found.n == 0:
        return
    certified = found.cap is not None
    if found.n <= FEW:
        columns = ("sample", "label", "smoothed class", "radius" if certified else "p-value", "votes", "seconds")
        rows = [
            (
                s.id,
                s.label,
                "abstains" if s.answer is None else str(s.answer),
                s.radius if certified else s.p_value,
                " ".join(f"{k}:{votes}" for k, votes in sorted(s.counts.items(), key=lambda pair: -pair[1])[:3]),
                s.seconds,
            )
            for s in found.samples
        ]
        print_table(columns, rows)
        typer.echo("")
    if certified:
        points = [(point.radius, percent(point.certified)) for point in found.curve]
        print_table(("l2 radius", "smoothed certified accuracy"), points)
        typer.echo("")
        typer.echo(
            f"Average certified radius l2 {found.average_radius:.4g}; no radius can exceed the cap {found.cap:.4g}, "
            f"where all {found.draws} draws agree."
        )
    typer.echo(
        f"Clean accuracy of the smoothed model {percent(found.clean_accuracy)}, of the model below it "
        f"{percent(found.base_accuracy)}; {found.abstained} of {found.n} samples abstained; {found.seconds:.1f} s."
    )
    typer.echo(found.statement)
    if found.run_dir is not None:
        typer.echo(f"run folder: {found.run_dir}")
