"""What the versions of VNN-LIB have in common: linear constraints on inputs and outputs, joined by `and` and `or`."""

from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

from withstand.core.errors import InputError

MAX_CASES = 100_000

Variable: TypeAlias = tuple[Literal["X", "Y"], int]
"""Input or output, and its flat number."""


@dataclass(frozen=True)
class Sum:
    """A linear term: the sum of weights[v] * v, and a constant."""

    weights: dict[Variable, float]
    constant: float = 0.0

    def scaled(self, factor: float) -> "Sum":
        """The term times a number."""
        return Sum({v: w * factor for v, w in self.weights.items()}, self.constant * factor)

    def plus(self, more: "Sum", factor: float = 1.0) -> "Sum":
        """The sum with `factor` times another term."""
        weights = dict(self.weights)
        for v, w in more.weights.items():
            weights[v] = weights.get(v, 0.0) + factor * w
        return Sum(weights, self.constant + factor * more.constant)


@dataclass(frozen=True)
class Atom:
    """The constraint sum(weights[v] * v) + offset <= 0, or < 0 where it is strict, of one line of the file."""

    weights: dict[Variable, float]
    offset: float
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
    difference = left.plus(right, -1.0) if sign[0] == "<" else right.plus(left, -1.0)
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
