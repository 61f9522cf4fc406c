"""Options under their former names: understood for one version, with a notice on stderr, and not shown by --help."""

import sys
from typing import Any

from typer.core import TyperCommand

FORMER = {
    "verify": {
        "--jobs": "--workers",
        "--results": "--out",
        "--certificate": "--certificates",
        "--timeout": "--budget",
    },
    "radius": {"--results": "--out"},
}
"""For each verb, the former name of an option and the one that took its place."""


class Verb(TyperCommand):
    """A verb of the command line, which knows its options by their former names too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line, former names put right. What follows `--` is no option."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*map(self._today, args[:end]), *args[end:]])

    def _today(self, word: str) -> str:
        former, equals, value = word.partition("=")
        name = FORMER.get(self.name or "", {}).get(former)
        if name is None:
            return word
        print(
            f"withstand: {former} is called {name} now; the former name will go in the next version.", file=sys.stderr
        )
        return name + equals + value
