"""`withstand report`: write the page of a run folder anew."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.", show_default=False)],
) -> None:
    """Write report.html, one page that opens offline, from the records of a run folder."""
    import withstand

    typer.echo(withstand.report(folder))
