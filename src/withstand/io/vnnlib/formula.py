"""What the versions of VNN-LIB have in common: linear constraints on inputs and outputs, joined by `and` and `or`."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Literal, TypeAlias

from withstand.core.errors import InputError

MAX_CASES = 100_000

ZERO, ONE = Fraction(0), Fraction(1)

Variable: TypeAlias = tuple[Literal["X", "Y"], int]
"""Input or output, and its flat number."""


@dataclass(frozen=True)
class Sum:
    """A linear term: the sum of weights[v] * v, and a constant. All numbers are exact."""

    weights: dict[Variable, Fraction]
    constant: Fraction = ZERO

    def scaled(self, factor: Fraction) -> "Sum":
        """The term times a number."""
        return Sum({v: w * factor for v, w in self.weights.items()}, self.constant * factor)

    def plus(self, more: "Sum") -> "Sum":
        """The sum with another term."""
        weights = dict(self.weights)
        for v, w in more.weights.items():
            weights[v] = weights[v] + w if v in weights else w
        return Sum(weights, self.constant + more.constant if self.constant else more.constant)

    def minus(self, less: "Sum") -> "Sum":
        """The difference from another term."""
        return self.plus(Sum({v: -w for v, w in less.weights.items()}, -less.constant))


@dataclass(frozen=True)
class Atom:
    """The constraint sum(weights[v] * v) + offset <= 0, or < 0 where it is strict, of one line of the file."""

    weights: dict[Variable, Fraction]
    offset: Fraction
    strict: bool
    line: int


Clauses: TypeAlias = list[list[Atom]]
"""A disjunction of conjunctions."""


@dataclass(frozen=True)
class Asserted:
    """A file's content: numbers of inputs and outputs, and the assertions, all of which a counterexample meets."""

    inputs: int
    outputs: int
    assertions: list[Clauses]


def compare(sign: str, left: Sum, right: Sum, line: int) -> Clauses:
    """The comparison of two terms by <=, <, >=, >, == or !=."""
    if sign == "==":
        return conjunction([compare("<=", left, right, line), compare(">=", left, right, line)], line)
    if sign == "!=":
        return compare("<", left, right, line) + compare(">", left, right, line)
    difference = left.minus(right) if sign[0] == "<" else right.minus(left)
    weights = {v: w for v, w in difference.weights.items() if w != 0}
    return [[Atom(weights, difference.constant, sign in ("<", ">"), line)]]


def conjunction(parts: list[Clauses], line: int) -> Clauses:
    """All parts at once, multiplied out. Raises InputError beyond 100,000 cases."""
    check_size([len(part) for part in parts], line)
    return [[atom for clause in chosen for atom in clause] for chosen in product(*parts)]


def check_size(factors: list[int], line: int) -> None:
    """Raise InputError where so many choices multiply to more than 100,000 cases."""
    size = 1
    for factor in factors:
        size *= factor
        if size > MAX_CASES:
            where = f"line {line}: " if line else ""
            raise InputError(f"{where}the assertions multiply to more than {MAX_CASES} cases; split the file.")
