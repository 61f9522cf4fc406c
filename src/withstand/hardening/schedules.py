"""The radius over the epochs. Learning rates follow PyTorch's own schedulers."""

from collections.abc import Callable
from dataclasses import dataclass

from withstand.core.errors import InputError

Ramp = Callable[[float], float]
"""From epochs done so far, with a fraction, to the share of the radius in force, 0 to 1."""


@dataclass(frozen=True)
class WarmUp:
    """A radius that grows in proportion to time from epoch `begin`, before which it is 0, to epoch `end`, from which it
    is whole. Raises InputError unless 0 <= begin < end."""

    end: float
    begin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise InputError(
                f"A warm-up from epoch {self.begin:g} to {self.end:g} does not grow; give an end after it."
            )

    def __call__(self, epochs: float) -> float:
        """The share of the radius after so many epochs."""
        return min(1.0, max(0.0, (epochs - self.begin) / (self.end - self.begin)))
