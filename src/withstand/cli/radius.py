"""`withstand radius`: how far each sample holds, from both sides."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json, print_table

if TYPE_CHECKING:
    from withstand.auditing.radius import Radii

CURVE = 10
"""Radii of the table at most."""


def radius(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME[:P=V,...]", help="The verifier, or auto: chosen by the network.")
    ] = "auto",
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="SHARE", help="The gap, as a share of the refuted radius, to reach.")
    ] = 0.01,
    double: Annotated[bool, typer.Option("--double", help="Compute in float64 instead of float32.")] = False,
    limit: options.Limit = None,
    budget: options.BudgetText = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Add a line a sample to FILE (CSV), and go on where it ends."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    property: options.Property = "argmax",
    json: options.Json = False,
) -> None:
    """Find how far each sample holds: the largest proved and the smallest refuted radius.

    The threat's radius is the largest one asked about: linf:0.3 asks about all radii up to 0.3. Bounds come from cheap
    to dear, and attacks from the other side, until both ends of a sample are close. With `--out` the same command
    again goes on after an interruption.
    """
    import withstand

    with only_results_on_stdout():
        found = withstand.radius(
            model,
            data,
            threat,
            method,
            property=property,
            limit=limit,
            tolerance=tolerance,
            budget=budget,
            out=out,
            seed=seed,
            device=device,
            double=double,
        )
    if json:
        print_json(found.to_json())
    else:
        _print(found)


def _print(found: "Radii") -> None:
    if found.n <= 2 * CURVE:
        columns = ("sample", "proved", "refuted", "status", "proved by", "refuted by", "seconds")
        rows = [
            (s.id, _known(s.proved), _known(s.refuted), s.status, s.proved_by or None, s.refuted_by or None, s.seconds)
            for s in found.samples
        ]
        print_table(columns, rows)
    else:
        _print_curve(found)
    typer.echo("")
    if found.why:
        typer.echo(found.why)
    counts = ", ".join(f"{number} {word}" for word, number in found.counts.items())
    typer.echo(
        f"Up to {found.threat}: {_sides(found)}; {counts}; clean accuracy {percent(found.clean_accuracy)}; "
        f"{found.seconds:.1f} s."
    )


def _sides(found: "Radii") -> str:
    """What is known of the samples that are right, from below and from above."""
    if not found.right:
        return "no sample is right when clean, so that none has a radius"
    proved = f"samples that are right hold to {found.mean_proved:.4g} in the mean by proof ({', '.join(found.grades)})"
    proved = proved if found.mean_proved else "nothing is proved of the samples that are right"
    if found.witnessed:
        return f"{proved}; {found.witnessed} of {found.right} are broken by witnesses, at {found.mean_refuted:.4g}" + (
            " in the mean" if found.witnessed > 1 else ""
        )
    looked = f" (no attack came to look at {found.unattacked})" if found.unattacked else ""
    return f"{proved}; none of {found.right} has a witness{looked}"


def _known(radius: float) -> float | None:
    """A radius, None where there is none."""
    return radius if math.isfinite(radius) else None


def _print_curve(found: "Radii") -> None:
    """Certified and attacked accuracy at radii between the least proved and the largest refuted."""
    ends = sorted(s.proved for s in found.samples if s.proved > 0)
    ends += sorted(s.refuted for s in found.samples if s.refuted < float("inf"))
    ends = sorted(ends)
    step = max(1, len(ends) // CURVE)
    radii = [float(f"{r:.3g}") for r in ends[step // 2 :: step]]
    if not radii:
        typer.echo("No radius is known: there is neither a proof nor a witness.")
        return
    rows = [(r, percent(found.certified_accuracy(r)), percent(found.attacked_accuracy(r))) for r in radii]
    print_table(("radius", "certified accuracy", "attacked accuracy"), rows)
