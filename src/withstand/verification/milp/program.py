"""A program that grows: columns with bounds, linear rows, and pairs of columns of which one must be zero."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

Sparse = Any
"""A `scipy.sparse.csr_array`: scipy loads late."""

DENSE = 0.2
"""Share of nonzeros from which on a product is computed with full matrices."""

ROUNDINGS = 8
"""Roundings of the largest term that a bound of sums is lowered by."""

LARGEST = 40_000_000
"""Numbers in the largest full matrix."""


@dataclass(frozen=True)
class Form:
    """Affine functions of a program's columns: matrix [size, C] @ columns + constant [size].

    C is the number of columns there were when the form was made; later columns do not enter.
    """

    matrix: Sparse
    constant: Array

    def __len__(self) -> int:
        return len(self.constant)

    def __getitem__(self, index: Array) -> "Form":
        return Form(self.matrix[index], self.constant[index])

    def __add__(self, other: "Form") -> "Form":
        columns = max(self.matrix.shape[1], other.matrix.shape[1])
        return Form(widened(self.matrix, columns) + widened(other.matrix, columns), self.constant + other.constant)

    def __sub__(self, other: "Form") -> "Form":
        return self + other.scaled(-np.ones(len(other)))

    def mapped(self, rows: Sparse) -> "Form":
        """Functions of these functions: rows @ self."""
        return Form(product(rows, self.matrix), rows @ self.constant)

    def scaled(self, factor: Array) -> "Form":
        """Every function times its factor [size]."""
        from scipy.sparse import csr_array

        matrix = self.matrix
        data = matrix.data * np.repeat(factor, np.diff(matrix.indptr))
        return Form(csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape), factor * self.constant)

    def shifted(self, constant: Array | float) -> "Form":
        """Every function plus a constant."""
        return Form(self.matrix, self.constant + constant)

    def value(self, columns: Array) -> Array:
        """The functions' values at values of the columns."""
        return self.matrix @ columns[: self.matrix.shape[1]] + self.constant


def constants(values: Array) -> Form:
    """Functions that are constant."""
    from scipy.sparse import csr_array

    return Form(csr_array((len(values), 0)), np.asarray(values, dtype=float))


def columns_of(index: Array) -> Form:
    """Columns by number."""
    from scipy.sparse import csr_array

    place = (np.arange(len(index)), index)
    return Form(
        csr_array((np.ones(len(index)), place), shape=(len(index), int(index.max(initial=-1)) + 1)), 0.0 * index
    )


def widened(matrix: Sparse, columns: int) -> Sparse:
    """The matrix with columns of zeros behind its own."""
    from scipy.sparse import csr_array

    if matrix.shape[1] == columns:
        return matrix
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


def stacked(forms: list[Form]) -> Form:
    """The functions of several forms, in a row."""
    from scipy.sparse import csr_array, vstack

    columns = max(form.matrix.shape[1] for form in forms)
    matrix = csr_array(vstack([widened(form.matrix, columns) for form in forms]))
    return Form(matrix, np.concatenate([form.constant for form in forms]))


def spread(form: Form, places: Array, size: int) -> Form:
    """The functions of a form at places among `size` functions, the others 0."""
    from scipy.sparse import csr_array

    index = (places, np.arange(len(places)))
    return form.mapped(csr_array((np.ones(len(places)), index), shape=(size, len(places))))


def summed(form: Form, group: Array | None = None) -> Form:
    """The sums of the functions of every group 0, 1, ... [size]; of all functions, where no groups are given."""
    from scipy.sparse import csr_array

    group = np.zeros(len(form), dtype=int) if group is None else group
    index = (group, np.arange(len(form)))
    return form.mapped(csr_array((np.ones(len(form)), index), shape=(int(group.max()) + 1, len(form))))


def product(left: Sparse, right: Sparse) -> Sparse:
    """left @ right, by full matrices where both have few zeros."""
    from scipy.sparse import csr_array

    sizes = [matrix.shape[0] * matrix.shape[1] for matrix in (left, right)]
    full = all(matrix.nnz >= DENSE * size for matrix, size in zip((left, right), sizes, strict=True))
    if full and max(*sizes, left.shape[0] * right.shape[1]) <= LARGEST:
        return csr_array(left.toarray() @ right.toarray())
    return csr_array(left @ right)


class Program:
    """Columns low [C] <= c <= high [C], rows low [R] <= matrix [R, C] @ c <= high [R], and pairs.

    A pair is two columns of which one must be 0: without that, the program is linear and a relaxation. exact: whether
    its solutions with all pairs settled are just the network's own inputs and values.
    """

    def __init__(self) -> None:
        self.low, self.high = np.zeros(0), np.zeros(0)
        self.blocks: list[Form] = []
        """The rows as forms without constants, in blocks of the width that the program had when they were added."""
        self.row_low, self.row_high = np.zeros(0), np.zeros(0)
        self.pairs = np.zeros((0, 2), dtype=int)
        self.pair_rows, self.pair_sizes = np.zeros(0, dtype=int), np.zeros(0)
        """The row that keeps each pair under its chord, and that row's side: how far the chord is from both zeros."""
        self.exact = True
        self._meanings: list[Callable[[Array], Array]] = []
        self._matrix: Sparse | None = None

    def __len__(self) -> int:
        return len(self.low)

    def copy(self) -> "Program":
        """A program of its own, with the same columns, rows and pairs so far."""
        twin = copy.copy(self)
        twin.blocks, twin._meanings = list(self.blocks), list(self._meanings)
        return twin

    @property
    def matrix(self) -> Sparse:
        """All rows [R, C]."""
        if self._matrix is None or self._matrix.shape != (len(self.row_low), len(self)):
            empty = constants(np.zeros(0))
            self._matrix = widened(stacked([empty, *self.blocks]).matrix, len(self))
        return self._matrix

    def add(self, low: Array, high: Array, meaning: Callable[[Array], Array]) -> Form:
        """New columns, as a form. meaning: their values at values of all columns before them; at a flat input of the
        network for the first."""
        index = len(self.low) + np.arange(len(low))
        self.low, self.high = np.append(self.low, low), np.append(self.high, high)
        self._meanings.append(meaning)
        return columns_of(index)

    def constrain(self, form: Form, low: Array | float, high: Array | float) -> None:
        """New rows: low <= form <= high."""
        if not len(form):
            return
        self.blocks.append(Form(form.matrix, np.zeros(len(form))))
        sides = (np.broadcast_to(side, len(form)) - form.constant for side in (low, high))
        low, high = sides
        self.row_low, self.row_high = np.append(self.row_low, low), np.append(self.row_high, high)

    def pair(self, first: Form, second: Form) -> None:
        """Columns [K] and [K], all at least 0, of which one of each two must be 0; and the rows of their chords."""
        index = [form.matrix.indices for form in (first, second)]
        most, other = (self.high[i] for i in index)
        size = most + other
        rows = len(self.row_low) + np.arange(len(first))
        self.constrain(first.scaled(other / size) + second.scaled(most / size), -np.inf, most * other / size)
        self.pairs = np.concatenate([self.pairs, np.stack(index, 1)])
        self.pair_rows = np.append(self.pair_rows, rows)
        self.pair_sizes = np.append(self.pair_sizes, most * other / size)

    def point(self, x: Array) -> Array:
        """The values of all columns at a flat input x [n]."""
        values = self._meanings[0](x)
        for meaning in self._meanings[1:]:
            values = np.append(values, meaning(values))
        return values

    def broken(self, columns: Array) -> float:
        """By how much values of the columns break bounds, rows and pairs at most."""
        value = self.matrix @ columns
        gaps = [self.low - columns, columns - self.high, self.row_low - value, value - self.row_high]
        return float(np.concatenate([*gaps, columns[self.pairs].min(1), [0.0]]).max())

    def least(self, form: Form) -> Array:
        """Lower bounds of forms by the columns' bounds alone."""
        columns = form.matrix.shape[1]
        falls, rises = form.matrix.minimum(0), form.matrix.maximum(0)
        return rises @ self.low[:columns] + falls @ self.high[:columns] + form.constant

    def dual_bound(self, goal: Form, dual: Array, high: Array | None = None) -> float:
        """A lower bound of a form of size 1 from any multipliers of the rows [R], by weak duality in float64.

        What multipliers leave of the goal is taken at the columns' bounds (`high` in place of their own upper ones); a
        multiplier of an infinite side counts 0. The sums' roundings are taken off, and numbers too large for float64
        leave minus infinity.
        """
        high = self.high if high is None else high
        with np.errstate(over="ignore", invalid="ignore"):
            side = np.where(dual > 0, self.row_low, self.row_high)
            dual = np.where(np.isfinite(side), dual, 0.0)
            rest = -(self.matrix.T @ dual)
            rest[goal.matrix.indices] += goal.matrix.data
            ends = np.where(rest > 0, self.low, high)
            at, used = dual != 0, rest != 0
            terms = np.concatenate([goal.constant[:1], dual[at] * side[at], rest[used] * ends[used]])
            bound = float(terms.sum() - ROUNDINGS * np.finfo(float).eps * np.abs(terms).sum())
        return bound if bound < np.inf else -np.inf
