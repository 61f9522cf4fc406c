"""What a training tells its caller while it runs. The training itself prints nothing."""

from typing import Protocol, runtime_checkable

from withstand.core.harden_records import EpochRecord
from withstand.hardening.progress import Tick


@runtime_checkable
class Talk(Protocol):
    """Whoever wants to hear."""

    def say(self, sentence: str) -> None:
        """A stage has begun, or something happened."""

    def step(self, tick: Tick) -> None:
        """A step was taken."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""


class Silent:
    """Nobody listens."""

    def say(self, sentence: str) -> None:
        """Nothing."""

    def step(self, tick: Tick) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Nothing."""
