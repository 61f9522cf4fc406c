"""From assertions to regions: a box of inputs each, with the property that must hold there (safe = not unsafe).

Numbers are read as the nearest double. A network in float32 can only be given float32 numbers, and such a number lies
between two decimals just when it lies between their nearest doubles, so the box neither loses nor gains a deployable
point. An input whose interval holds no float32 number at all (a constant such as 0.1) is widened to the nearest one,
which is what the network would be given.

A strict bound on an input ends at the next double, which is exact for the same reason. A strict comparison of outputs
is proved together with its edge, which is sound, and a witness must lie off the edge (`Region.is_unsafe`).
"""

import math
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor

from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Linear
from withstand.io.vnnlib.formula import Asserted, Atom, check_size


@dataclass(frozen=True)
class Region:
    """One question of a file: the property must hold on the whole box (edges float64 [*input_shape]).

    strict: bool [R], rows of the property that a counterexample must make negative, not only zero (None: there are
    none).
    """

    threat: Box
    property: Linear
    strict: Tensor | None = None

    def is_unsafe(self, outputs: Tensor) -> bool:
        """Whether the outputs [*outputs] of an input in the box make it a counterexample, computed in float64."""
        value = self.property.weight.double() @ outputs.double().flatten() + self.property.offset.double()
        met = value <= 0
        if self.strict is not None:
            met &= ~self.strict | (value < 0)
        groups = self.property.group
        missed = torch.zeros(int(groups.max()) + 1).scatter_add_(0, groups, (~met).float())
        return bool((missed == 0).any())


@dataclass
class _Case:
    """One conjunction: bounds on inputs by number, and rows over outputs that are <= 0 (or < 0) in it."""

    lower: dict[int, float] = field(default_factory=dict)
    upper: dict[int, float] = field(default_factory=dict)
    rows: list[Atom] = field(default_factory=list)

    def add(self, clause: list[Atom]) -> "_Case":
        """Put in atoms: those on one input as bounds, those on outputs (and constant ones) as rows."""
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
        edge = -atom.offset / weight
        if atom.strict:
            edge = math.nextafter(edge, -math.inf if weight > 0 else math.inf)
        if weight > 0:
            self.upper[number] = min(edge, self.upper.get(number, math.inf))
        else:
            self.lower[number] = max(edge, self.lower.get(number, -math.inf))

    def tighten(self, lower: np.ndarray, upper: np.ndarray) -> None:
        for number, edge in self.lower.items():
            lower[number] = max(lower[number], edge)
        for number, edge in self.upper.items():
            upper[number] = min(upper[number], edge)


def regions_of(asserted: Asserted, shape: tuple[int, ...]) -> list[Region]:
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
    boxes: dict[bytes, tuple[np.ndarray, np.ndarray, list[list[Atom]]]] = {}
    for combination in product(*choices):
        low, high = lower.copy(), upper.copy()
        for case in combination:
            case.tighten(low, high)
        if (low > high).any():
            continue
        clause = base.rows + [atom for case in combination for atom in case.rows]
        if all(atom.weights or atom.offset < 0 or (atom.offset == 0 and not atom.strict) for atom in clause):
            key = low.tobytes() + high.tobytes()
            boxes.setdefault(key, (low, high, []))[2].append([atom for atom in clause if atom.weights])
    return [_region(*entry, asserted.outputs, shape) for entry in boxes.values()]


def _region(
    low: np.ndarray, high: np.ndarray, clauses: list[list[Atom]], outputs: int, shape: tuple[int, ...]
) -> Region:
    unbounded = np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high))
    if len(unbounded):
        raise InputError(f"the input X_{unbounded[0]} has no lower or no upper bound; assert both.")
    count = sum(max(1, len(clause)) for clause in clauses)
    weight, offset = torch.zeros(count, outputs, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    group, strict, row = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.bool), 0
    for number, clause in enumerate(clauses):
        group[row : row + max(1, len(clause))] = number
        for place, atom in enumerate(clause, row):
            for (_, index), value in atom.weights.items():
                weight[place, index] = value
            offset[place], strict[place] = atom.offset, atom.strict
        row += max(1, len(clause))  # no row: unsafe whatever the outputs are, as a row that is 0 everywhere says
    low, high = _deployable(low, high)
    threat = Box(lower=torch.from_numpy(low).reshape(shape), upper=torch.from_numpy(high).reshape(shape))
    return Region(threat, Linear(weight, offset, group), strict if bool(strict.any()) else None)


def _deployable(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widen the intervals that hold no float32 number to the nearest one."""
    near = ((low + high) / 2).astype(np.float32).astype(np.float64)
    above = np.nextafter(low.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    rounded = low.astype(np.float32).astype(np.float64)
    empty = np.where(rounded >= low, rounded, above) > high
    return np.where(empty, np.minimum(low, near), low), np.where(empty, np.maximum(high, near), high)
