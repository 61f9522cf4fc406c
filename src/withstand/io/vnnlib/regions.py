"""From assertions to regions: a box of inputs each, with the property that must hold there (safe = not unsafe).

A file's numbers are exact, and so are the limits made of them; the box has their nearest doubles. A runtime reads an
input as a double and rounds it to the network's type, which may carry it past a limit: `Region.deployed` takes in what
becomes of the limits, so that it holds every number that the network can be given by an input within them, also where
the interval itself holds none (a constant such as 0.1 in float32). `Region.decimals` writes such numbers as decimals
that lie within the limits.

A strict limit of an input is taken at the first double inside. A strict comparison of outputs is proved together with
its edge, which is sound, and a witness must lie off the edge (`Region.is_unsafe`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Linear
from withstand.io.vnnlib.decimals import LARGEST, Limit, decimal_within, nearest
from withstand.io.vnnlib.formula import Asserted, Atom, Variable, check_size


@dataclass
class _Case:
    """One conjunction: limits of inputs by number, and rows over outputs that are <= 0 (or < 0) in it."""

    lower: dict[int, Limit] = field(default_factory=dict)
    upper: dict[int, Limit] = field(default_factory=dict)
    rows: list[Atom] = field(default_factory=list)

    def add(self, clause: list[Atom]) -> "_Case":
        """Put in atoms: those on one input as limits, those on outputs (and constant ones) as rows."""
        for atom in clause:
            variables = list(atom.weights)
            if all(letter == "Y" for letter, _ in variables):
                self.rows.append(atom)
            elif len(variables) == 1:
                self._bound(variables[0][1], atom)
            else:
                where = f"line {atom.line}: " if atom.line else ""
                names = ", ".join(f"{letter}_{number}" for letter, number in variables)
                raise InputError(f"{where}a constraint on inputs may name one input only; {names} stand together.")
        return self

    def _bound(self, number: int, atom: Atom) -> None:
        (weight,) = atom.weights.values()
        limit = Limit(-atom.offset if weight == 1 else -atom.offset / weight, atom.strict)
        if weight > 0:
            self.upper[number] = _lower_of(limit, self.upper.get(number))
        else:
            self.lower[number] = _higher_of(limit, self.lower.get(number))

    def tighten(self, lower: np.ndarray, upper: np.ndarray) -> None:
        for number, limit in self.lower.items():
            lower[number] = max(lower[number], limit.double(up=True))
        for number, limit in self.upper.items():
            upper[number] = min(upper[number], limit.double(up=False))


def _lower_of(limit: Limit, other: Limit | None) -> Limit:
    return limit if other is None or (limit.at, not limit.strict) < (other.at, not other.strict) else other


def _higher_of(limit: Limit, other: Limit | None) -> Limit:
    return limit if other is None or (limit.at, limit.strict) > (other.at, other.strict) else other


@dataclass(frozen=True)
class Region:
    """One question of a file: the property must hold on the whole box (edges float64 [*input_shape]), and on what
    becomes of it in the network's type.

    strict: bool [R], rows of the property that a counterexample must make negative, not only zero (None: there are
    none). cases, clauses: the file's own limits, and its conjunctions over outputs, exactly (empty where the region
    comes from no file: then they are those of box and property). type: of the network's inputs.
    """

    threat: Box
    property: Linear
    strict: Tensor | None = None
    cases: tuple[_Case, ...] = ()
    clauses: tuple[list[Atom], ...] = ()
    type: str = "float32"

    def is_unsafe(self, outputs: Tensor) -> bool:
        """Whether the outputs [*outputs] of an input in the box make it a counterexample, computed exactly."""
        values = outputs.flatten().tolist()
        if not all(map(math.isfinite, values)):
            return self._is_unsafe_at_infinity(outputs.double().flatten())
        y = [Fraction(value) for value in values]
        return any(all(_meets(atom, y) for atom in clause) for clause in self.clauses or self._own_clauses())

    def _is_unsafe_at_infinity(self, y: Tensor) -> bool:
        """The same of outputs that are not all finite, by the rules of floats, in which nothing is true of a NaN."""
        return any(all(_meets_plainly(atom, y) for atom in clause) for clause in self.clauses or self._own_clauses())

    def _own_clauses(self) -> list[list[Atom]]:
        group, weight, offset = self.property.group.tolist(), self.property.weight, self.property.offset
        clauses: list[list[Atom]] = [[] for _ in range(max(group) + 1)]
        for row, number in enumerate(group):
            weights: dict[Variable, Fraction] = {("Y", j): Fraction(w) for j, w in enumerate(weight[row].tolist()) if w}
            strict = self.strict is not None and bool(self.strict[row])
            clauses[number].append(Atom(weights, Fraction(float(offset[row])), strict, 0))
        return clauses

    @cached_property
    def deployed(self) -> Box:
        """The box with what becomes of its edges in the network's type, save where they are strict and numbers of the
        type lie between them."""
        assert self.threat.lower is not None
        assert self.threat.upper is not None
        low, high = (edge.double().numpy().ravel() for edge in (self.threat.lower, self.threat.upper))
        held = _deployed(low, high, self.cases, self.type)
        low, high = (torch.from_numpy(edge).reshape(self.threat.lower.shape) for edge in held)
        return replace(self.threat, lower=low, upper=high)

    def limits(self, number: int) -> tuple[Limit, Limit]:
        """The exact limits of the input of a flat number."""
        low = high = None
        for case in self.cases:
            low = _higher_of(case.lower[number], low) if number in case.lower else low
            high = _lower_of(case.upper[number], high) if number in case.upper else high
        if low is None or high is None:
            assert self.threat.lower is not None
            assert self.threat.upper is not None
            low = Limit(Fraction(float(self.threat.lower.flatten()[number])))
            high = Limit(Fraction(float(self.threat.upper.flatten()[number])))
        return low, high

    def decimals(self, x: Tensor) -> list[str] | int:
        """An input [*input_shape] of the box as decimals within the limits that the network is given as x; the number
        of the first coordinate that has none, where there is one."""
        texts = []
        for number, value in enumerate(x.flatten().tolist()):
            text = decimal_within(value, *self.limits(number), self.type)
            if text is None:
                return number
            texts.append(text)
        return texts


def _meets(atom: Atom, y: Sequence[Fraction]) -> bool:
    value = sum((weight * y[index] for (_, index), weight in atom.weights.items()), atom.offset)
    return value < 0 if atom.strict else value <= 0


def _meets_plainly(atom: Atom, y: Tensor) -> bool:
    value = nearest(atom.offset) + float(sum(nearest(w) * y[index] for (_, index), w in atom.weights.items()))
    return value < 0 if atom.strict else value <= 0


def regions_of(asserted: Asserted, shape: tuple[int, ...], type: str) -> list[Region]:
    """The regions of a file's assertions, inputs in a shape. Raises InputError as `read_vnnlib` says."""
    base, choices = _Case(), []
    for clauses in asserted.assertions:
        if len(clauses) == 1:
            base.add(clauses[0])
        else:
            choices.append([_Case().add(clause) for clause in clauses])
    check_size([len(choice) for choice in choices], 0)
    lower, upper = np.full(asserted.inputs, -np.inf), np.full(asserted.inputs, np.inf)
    base.tighten(lower, upper)
    boxes: dict[object, tuple[np.ndarray, np.ndarray, tuple[_Case, ...], list[list[Atom]]]] = {}
    for combination in product(*choices):
        low, high = lower.copy(), upper.copy()
        for case in combination:
            case.tighten(low, high)
        cases = (base, *(case for case in combination if case.lower or case.upper))
        if _empty(low, high, cases):
            continue
        clause = base.rows + [atom for case in combination for atom in case.rows]
        if all(atom.weights or atom.offset < 0 or (atom.offset == 0 and not atom.strict) for atom in clause):
            key = low.tobytes() + high.tobytes() + repr([(c.lower, c.upper) for c in cases[1:]]).encode()
            boxes.setdefault(key, (low, high, cases, []))[3].append([atom for atom in clause if atom.weights])
    return [_region(*entry, asserted.outputs, shape, type) for entry in boxes.values()]


def _empty(low: np.ndarray, high: np.ndarray, cases: Sequence[_Case]) -> bool:
    """Whether no number lies within the exact limits. Where some do, but no double, those around them are kept."""
    for number in np.flatnonzero(low >= high).tolist():
        least = most = None
        for case in cases:
            least = _higher_of(case.lower[number], least) if number in case.lower else least
            most = _lower_of(case.upper[number], most) if number in case.upper else most
        if least is None or most is None:
            continue
        if least.at > most.at or (least.at == most.at and (least.strict or most.strict)):
            return True
        low[number], high[number] = sorted((low[number], high[number]))
    return False


def _region(
    low: np.ndarray,
    high: np.ndarray,
    cases: tuple[_Case, ...],
    clauses: list[list[Atom]],
    outputs: int,
    shape: tuple[int, ...],
    type: str,
) -> Region:
    unbounded = np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high))
    if len(unbounded):
        raise InputError(f"the input X_{unbounded[0]} has no lower or no upper bound; assert both.")
    beyond = np.flatnonzero(np.maximum(np.abs(low), np.abs(high)) > LARGEST[type])
    if len(beyond):
        raise InputError(f"the input X_{beyond[0]} has a limit beyond {LARGEST[type]:.2g}, the largest of {type}.")
    count = sum(max(1, len(clause)) for clause in clauses)
    weight, offset = torch.zeros(count, outputs, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    group, strict, row = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.bool), 0
    for number, clause in enumerate(clauses):
        group[row : row + max(1, len(clause))] = number
        for place, atom in enumerate(clause, row):
            for (_, index), value in atom.weights.items():
                weight[place, index] = nearest(value)
            offset[place], strict[place] = nearest(atom.offset), atom.strict
        row += max(1, len(clause))  # no row: unsafe whatever the outputs are, as a row that is 0 everywhere says
    if not bool((weight.abs() <= LARGEST[type]).all() and (offset.abs() <= LARGEST[type]).all()):
        raise InputError(f"a constraint on outputs has numbers beyond {LARGEST[type]:.2g}, the largest of {type}.")
    threat = Box(lower=torch.from_numpy(low).reshape(shape), upper=torch.from_numpy(high).reshape(shape))
    property = Linear(weight, offset, group)
    return Region(threat, property, strict if bool(strict.any()) else None, cases, tuple(clauses), type)


def _deployed(low: np.ndarray, high: np.ndarray, cases: Sequence[_Case], type: str) -> tuple[np.ndarray, np.ndarray]:
    """The edges of `Region.deployed`."""
    open_low, open_high = np.zeros(low.shape, bool), np.zeros(high.shape, bool)
    for case in cases:
        open_low[[number for number, limit in case.lower.items() if limit.strict]] = True
        open_high[[number for number, limit in case.upper.items() if limit.strict]] = True
    near, far = low.astype(type), high.astype(type)
    first = np.where(near.astype(np.float64) < low, np.nextafter(near, near.dtype.type(np.inf)), near)
    held = first.astype(np.float64) <= high
    low = np.where(open_low & held, low, np.minimum(low, near.astype(np.float64)))
    return low, np.where(open_high & held, high, np.maximum(high, far.astype(np.float64)))
