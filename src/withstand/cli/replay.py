"""`withstand replay`: run a stored witness through an ONNX file. Needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from withstand.cli.options import Json, Trust
from withstand.cli.output import print_json


def replay(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A witness of a run folder, witnesses/*.npz or *.png.", show_default=False),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="net.onnx; unless given, the model of the run."),
    ] = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Run a stored witness through a model in onnxruntime, without torch.

    Exit code 0 when it still violates its property, 1 when it does not.
    """
    import withstand

    answer = withstand.replay(file, model, trust=trust)
    if json:
        print_json(answer.to_json())
    else:
        typer.echo(answer.sentence)
    if not answer.reproduced:
        raise typer.Exit(1)
