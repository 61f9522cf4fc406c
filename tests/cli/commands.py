"""How a command ended, for the tests of the command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUESTION = ("digits-cnn", "--data", "digits", "--threat", "linf:0.03", "--limit", "3")
"""A question that takes a second or two."""

HARD = ("digits-cnn", "--data", "digits", "--threat", "linf:0.2", "--limit", "4")
"""A question at whose radius the plain network is broken."""


@dataclass(frozen=True)
class Done:
    """The exit code, and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout, and nothing else there."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The last line of stderr, where the one sentence of an error stands."""
        assert "Traceback" not in self.err + self.out
        return self.err.strip().splitlines()[-1]


Command = Callable[..., Done]
