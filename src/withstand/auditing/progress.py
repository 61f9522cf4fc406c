"""What an audit tells its caller while it runs. The audit itself prints nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from withstand.core.records import Counts


@dataclass(frozen=True)
class Progress:
    """One event: the stage that has just begun, and the samples settled so far, of `total`, by verdict.

    stage: "doctor", the name of an attack or verifier, "curve", "settled" (a block is finished) or "done".
    seconds: since the audit began.
    """

    stage: str
    done: int
    total: int
    counts: Counts
    seconds: float


Listener = Callable[[Progress], None]
"""A function that is called with each event, in the audit's own thread."""
