"""What a machine that runs a network in its own float type adds to the values of real arithmetic.

With it, bounds hold for the numbers that the machine computes: of sums of n products, in any order, wrong by gamma_n of
the sizes of their terms (see `rounding`, with the machine's u), and of activations, wrong by `LIBRARY` roundings of
max(1, |value|) where libraries approximate them. Convolutions by transforms, such as Winograd's, are not covered.
"""

from dataclasses import dataclass

import numpy as np

from withstand.checker.functions import Clip, Function, Kinked
from withstand.checker.maximum import Maximum

Array = np.ndarray

LIBRARY = 16
"""Roundings by which exponentials and their like may be wrong in the libraries."""

ROOM = 4
"""Roundings of a sum beside those of its terms: a bias, and factors that runtimes fold into weights."""


@dataclass(frozen=True)
class Machine:
    """unit: the unit roundoff of its float type; 0 is real arithmetic. smallest: what underflow may lose. largest:
    beyond it numbers may overflow, after which nothing is known."""

    unit: float = 0.0
    smallest: float = 0.0
    largest: float = np.inf

    def sums(self, terms: int, whole: Array) -> Array:
        """How far sums of so many terms, of the sizes `whole` together, may be off."""
        count = terms + ROOM
        share = count * self.unit
        gamma = share / (1 - share) if share < 1 else np.inf
        if not self.unit:
            return np.zeros_like(whole)
        return np.where(whole < self.largest, gamma * whole + count * self.smallest, np.inf)

    def rounds(self, function: Function) -> bool:
        """Whether values of an activation are rounded."""
        return bool(self.unit) and not isinstance(function, Clip | Maximum) and not _picks(function)

    def values(self, function: Function, size: Array) -> Array:
        """How far values of an activation, of these sizes at most, may be off."""
        if not self.rounds(function):
            return np.zeros(1)
        return np.where(size < self.largest, LIBRARY * self.unit * np.maximum(size, 1.0) + self.smallest, np.inf)


def _picks(function: Function) -> bool:
    """Whether an activation gives its argument, its negative or zero: ReLU and the absolute value."""
    return isinstance(function, Kinked) and function.exact


REAL = Machine()
"""Arithmetic without roundings."""

MACHINES = {
    "tensor(float)": Machine(2.0**-24, 2.0**-126, 2.0**127),
    "tensor(double)": Machine(2.0**-53, 2.0**-1022, 2.0**1023),
}
"""By the type of a network's values."""
