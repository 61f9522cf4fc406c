"""Lists of different lengths that lie end to end in one array."""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Ragged:
    """List i is the stretch [start[i], start[i + 1]) of some array."""

    start: Array

    @classmethod
    def of(cls, lengths: Array) -> "Ragged":
        """Lists of these lengths."""
        return cls(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @classmethod
    def sorted(cls, owner: Array, count: int) -> "tuple[Ragged, Array]":
        """The places of each of `count` owners in `owner`: lists of the array returned as well."""
        order = np.argsort(owner, kind="stable")
        return cls(np.searchsorted(owner[order], np.arange(count + 1))), order

    @property
    def total(self) -> int:
        """Entries of all lists."""
        return int(self.start[-1])

    def take(self, index: Array) -> tuple[Array, Array]:
        """The entries of lists index [K], one list after the other: which k each is of, and its place."""
        first, length = self.start[index], self.start[index + 1] - self.start[index]
        row = np.repeat(np.arange(len(index)), length)
        begin = np.repeat(np.cumsum(length) - length, length)
        return row, np.repeat(first, length) + np.arange(len(row)) - begin
