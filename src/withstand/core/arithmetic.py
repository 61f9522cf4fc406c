"""What the judge may ask of the arithmetic in which a network is run."""

from typing import Protocol

from torch import Tensor

from withstand.core.threat import Threat


class Arithmetic(Protocol):
    """The arithmetic in which a network is run, beside that of real numbers, of which proofs speak."""

    def radii(self, x0: Tensor, y: Tensor, threat: Threat, enough: Tensor) -> Tensor:
        """How far the margins of inputs around x0 [B, *shape] may lie from those of real arithmetic anywhere in the
        threat, [B]; infinite where that is not known. Nobody asks for less than `enough` [B]."""
        ...

    def explains(self, x: Tensor, y: Tensor, margin: float, bound: float, radius: float) -> bool:
        """Whether rounding alone makes the margin of x [*shape] fall below a lower bound of the real one."""
        ...
