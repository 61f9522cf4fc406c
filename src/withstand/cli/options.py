"""Arguments and options that several verbs share, and how lists of methods are written."""

import re
from pathlib import Path
from typing import Annotated

import typer

from withstand.core.errors import InputError

_MODEL = typer.Argument(
    metavar="MODEL",
    help="A built-in name, net.onnx, net.nnet, net.pt2, pkg.mod:factory?arg=1, timm:NAME or hf:NAME.",
    show_default=False,
)
_DATA = typer.Option(
    "--data",
    metavar="DATA",
    help="A built-in name, file.npz, file.npz[x,y], table.csv, or an image folder with one sub-folder a class.",
    show_default=False,
)
_THREAT = typer.Option(
    "--threat",
    metavar="THREAT",
    help="As linf:8/255, l2:0.5, l1:8, l0:10 or patch:5x5; [low,high] adds a domain, @u8 says that inputs are 8-bit.",
    show_default=False,
)
Model = Annotated[str, _MODEL]
Data = Annotated[str, _DATA]
Threat = Annotated[str, _THREAT]
ModelOrNone = Annotated[str | None, _MODEL]
DataOrNone = Annotated[str | None, _DATA]
ThreatOrNone = Annotated[str | None, _THREAT]
_PROPERTY_FORMS = (
    "What must hold: argmax, not-class:CLASS, top-k:K, binary, multi-label, band:WIDTH, a condition such as "
    "'out[3] > out[other] & out[0] < 2', or pkg.mod:NAME."
)
Property = Annotated[str, typer.Option("--property", metavar="P", help=_PROPERTY_FORMS)]
PropertyOrNone = Annotated[
    str | None, typer.Option("--property", metavar="P", help=f"{_PROPERTY_FORMS} Unless given, the plan's, or argmax.")
]
PropertyOrTargets = Annotated[
    str, typer.Option("--property", metavar="P", help=f"{_PROPERTY_FORMS} Or all-targets: every other class in turn.")
]
Attacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        metavar="NAME[:P=V,...]",
        help="An attack, pgd unless given; repeat it, or separate names by commas.",
    ),
]
Queries = Annotated[
    int | None,
    typer.Option(
        "--queries", min=1, metavar="N", help="Rows of the model a sample that each attack may cost, at each radius."
    ),
]
Access = Annotated[
    str, typer.Option("--access", metavar="A", help="What attacks see of the model: gradient, scores or labels.")
]
Draws = Annotated[
    int, typer.Option("--eot", min=1, metavar="N", help="Average so many answers of a model that is random.")
]
Train = Annotated[
    str | None,
    typer.Option(
        "--train", metavar="DATA", help="What universal attacks are fitted on; the first half of --data unless given."
    ),
]
Surrogate = Annotated[
    str | None,
    typer.Option("--surrogate", metavar="MODEL", help="A model that attacks see in place of the attacked one."),
]
Closest = Annotated[bool, typer.Option("--closest", help="Look for the nearest violation, at whatever radius.")]
Radii = Annotated[
    str | None,
    typer.Option("--radii", metavar="R,R,...", help="Attacked accuracy at these radii too, as 1/255,2/255,4/255."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Keep records, witnesses and a report in this run folder.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N samples.")]
BudgetText = Annotated[
    str | None, typer.Option("--budget", metavar="TIME", help="Wall time of the search, as 90s, 10m or 1.5h.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Seed of every random choice.")]
SeedOrNone = Annotated[
    int | None, typer.Option("--seed", metavar="S", help="Seed of every random choice. Unless given, the plan's, or 0.")
]
Device = Annotated[str, typer.Option("--device", metavar="D", help="Where torch computes: cpu, cuda, cuda:1 ...")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Code that the file names may run: classes, and functions marked by withstand.factory."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")]

_PARAMETER = re.compile(r"\s*\w+\s*=")


def split_methods(texts: list[str]) -> list[str]:
    """The methods named by one or more option values.

    A comma separates methods unless what follows has the form `name=value`; then it goes on with the parameters.

    >>> split_methods(["pgd:steps=3,restarts=2,apgd", "square"])
    ['pgd:steps=3,restarts=2', 'apgd', 'square']
    """
    methods: list[str] = []
    for text in texts:
        started = False
        for part in filter(str.strip, text.split(",")):
            if started and _PARAMETER.match(part):
                methods[-1] += "," + part.strip()
            else:
                methods.append(part.strip())
            started = True
    return methods


def numbers(text: str) -> list[float]:
    """Numbers or fractions, separated by commas.

    >>> numbers("0.5,1/4")
    [0.5, 0.25]
    """
    found = []
    for part in text.split(","):
        try:
            top, slash, bottom = part.partition("/")
            found.append(float(top) / float(bottom) if slash else float(top))
        except (ValueError, ZeroDivisionError):
            raise InputError(
                f"{part!r} in {text!r} is not a number; write for example 0.1,0.2 or 1/255,2/255."
            ) from None
    return found
