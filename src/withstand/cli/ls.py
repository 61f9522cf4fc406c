"""`withstand ls`: the runs in a folder, or the methods that are installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli.options import Json
from withstand.cli.output import print_json, print_table

if TYPE_CHECKING:
    from withstand.auditing.listing import Listing

KINDS = {
    "attacks": ("attack", "universal"),
    "verifiers": ("verifier",),
    "objectives": ("objective",),
    "additions": ("addition",),
}
"""Words in place of a folder that list methods, and the kinds they list."""


def ls(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="Where the run folders lie, ./runs unless given; or attacks, verifiers, objectives or additions.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[bool, typer.Option("--methods", help="List all methods instead of runs.")] = False,
    json: Json = False,
) -> None:
    """List runs with their numbers, or the installed methods.

    Runs are those of audit, attack, harden (the best weights on held-out samples) and smooth (statistics).
    """
    if methods or (folder is not None and str(folder) in KINDS and not folder.is_dir()):
        _list_methods(KINDS.get(str(folder), ()), json)
        return
    import withstand

    runs = withstand.ls() if folder is None else withstand.ls(folder)
    if json:
        print_json({"runs": [run.to_json() for run in runs]})
        return
    columns = ("run", "kind", "model", "threat", "state", "n", "clean", "certified", "attacked", "smoothed")
    print_table(columns, [(run.path, run.kind, run.model, run.threat, run.progress, *_numbers(run)) for run in runs])


def _numbers(run: "Listing") -> tuple[object, ...]:
    """Samples and shares of them; statistics of a smoothed model stand in a column of their own."""
    if run.smoothed is not None:
        vote = run.smoothed
        radius = "" if vote.average_radius is None else f", l2 {vote.average_radius:.3g} on average"
        return vote.n, None, None, None, f"{vote.clean_accuracy:.2%}{radius}"
    found = run.summary or run.hardened
    if found is None or found.n == 0:
        return (None,) * 5
    shares = (found.clean_accuracy, found.certified_accuracy, found.attacked_accuracy)
    return found.n, *(None if share is None else f"{share:.2%}" for share in shares), None


def _list_methods(kinds: tuple[str, ...], json: bool) -> None:
    """Methods of some kinds (none named: of all)."""
    import inspect
    import re

    from withstand.core.registry import FOLDERS, components

    found = [
        (
            kind,
            name,
            ", ".join(getattr(cls, "norms", ())),
            str(getattr(cls, "access", "")),
            re.split(r" \(|[.;]\s", " ".join((inspect.getdoc(cls) or "").split()))[0],
        )
        for kind in kinds or FOLDERS
        for name, cls in components(kind).items()
    ]
    if json:
        print_json(
            {"methods": [dict(zip(("kind", "name", "threats", "needs", "summary"), row, strict=True)) for row in found]}
        )
    else:
        print_table(("kind", "name", "threats", "needs", "in one sentence"), found)
