"""`withstand report`: write the page of a run folder anew, or one page over several."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="A run folder, or several to lay side by side.", show_default=False),
    ],
) -> None:
    """Write the page of a run folder anew.

    report.html is one file, made from the records alone, that opens offline.
    For several folders one index.html is written beside them.
    """
    import withstand

    typer.echo(withstand.report(folders[0] if len(folders) == 1 else folders))
