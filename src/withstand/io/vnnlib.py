"""VNN-LIB 1.0 (www.vnnlib.org): questions about a network read from SMT-LIB text, and witnesses as VNN-COMP asks.

A file declares inputs X_i and outputs Y_j and asserts when an input is a counterexample. Its assertions become
regions: a box of inputs each, with the property that must hold there (safe = not unsafe). Numbers are read as the
nearest double. A network in float32 can only be given float32 numbers, and such a number lies between two decimals just
when it lies between their nearest doubles, so the box neither loses nor gains a deployable point. An input whose
interval holds no float32 number at all (a constant such as 0.1) is widened to the nearest one, which is what the
network would be given.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Linear

MAX_CASES = 100_000
MAX_DEPTH = 100
_TOKEN = re.compile(r"[()]|[^\s()]+")
_VARIABLE = re.compile(r"[XY]_\d+")


@dataclass(frozen=True)
class Region:
    """One question of a file: the property must hold on the whole box (edges float64 [*input_shape])."""

    threat: Box
    property: Linear


class Form(list):
    """A parenthesised list of words and forms, with the line it opens on."""

    line: int = 0


Term = str | Form


@dataclass(frozen=True)
class Atom:
    """The constraint sum(weights[v] * v) + offset <= 0 over variables named v."""

    weights: dict[str, float]
    offset: float
    line: int


@dataclass
class Case:
    """One conjunction: bounds on inputs by number, and rows over outputs that are <= 0 in it."""

    lower: dict[int, float] = field(default_factory=dict)
    upper: dict[int, float] = field(default_factory=dict)
    rows: list[Atom] = field(default_factory=list)


def read_vnnlib(
    path: str | Path, input_shape: tuple[int, ...] | None = None, outputs: int | None = None
) -> list[Region]:
    """The regions of a VNN-LIB 1.0 file; the property holds on all of them just when the file is `unsat`.

    input_shape: the shape the X_i fill in C order (flat unless given). Conjunctions whose box is the same share a
    region; those with an empty box are dropped, so the list may be empty.

    Raises InputError with the line for text that is not VNN-LIB, for a constraint between several inputs or between
    inputs and outputs, for an unbounded input and for an input_shape of another size.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The VNN-LIB file {str(path)!r} cannot be read ({error}); check the path.") from None
    try:
        return _Reader().read(text, input_shape, outputs)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_witness(x: Tensor, outputs: Tensor) -> str:
    """A witness in VNN-COMP's form: `sat`, then ((X_0 v) ... (Y_0 v) ...), for one input and its outputs."""
    pairs = [f"(X_{i} {v!r})" for i, v in enumerate(x.flatten().tolist())]
    pairs += [f"(Y_{j} {v!r})" for j, v in enumerate(outputs.flatten().tolist())]
    return "sat\n(" + "\n".join(pairs) + ")\n"


def parse_forms(text: str) -> Iterator[Form]:
    """The top-level forms of SMT-LIB text, `;` comments left out. InputError when parentheses do not match."""
    stack: list[Form] = []
    for number, line in enumerate(text.splitlines(), 1):
        for token in _TOKEN.findall(line.partition(";")[0]):
            if token == "(":
                form = Form()
                form.line = number
                stack.append(form)
                if len(stack) > MAX_DEPTH:
                    raise InputError(f"line {number}: parentheses are nested deeper than {MAX_DEPTH}; flatten them.")
            elif not stack:
                raise InputError(f"line {number}: {token!r} stands outside parentheses; remove it.")
            elif token == ")":
                form = stack.pop()
                if stack:
                    stack[-1].append(form)
                else:
                    yield form
            else:
                stack[-1].append(token)
    if stack:
        raise InputError(f"line {stack[-1].line}: a parenthesis opened here is never closed; close it.")


class _Reader:
    """Declarations and assertions seen so far, as a list of cases joined by `or`."""

    def __init__(self) -> None:
        self.declared: set[str] = set()
        self.base = Case()
        self.choices: list[list[Case]] = []

    def read(self, text: str, input_shape: tuple[int, ...] | None, wanted: int | None) -> list[Region]:
        for form in parse_forms(text):
            match form:
                case ["declare-const", str() as name, "Real"] if _VARIABLE.fullmatch(name):
                    if name in self.declared:
                        raise InputError(f"line {form.line}: {name} is declared twice; remove one declaration.")
                    self.declared.add(name)
                case ["assert", condition]:
                    self._assert(condition, form.line)
                case _:
                    raise InputError(
                        f"line {form.line}: write (declare-const X_i Real), (declare-const Y_i Real) or (assert ...)."
                    )
        inputs, outputs = self._count("X"), self._count("Y")
        shape = (inputs,) if input_shape is None else input_shape
        if int(np.prod(shape)) != inputs:
            raise InputError(f"the file declares {inputs} inputs, the network takes {list(shape)}; use its own file.")
        if wanted not in (None, outputs):
            raise InputError(f"the file speaks of {outputs} outputs, the network has {wanted}; use its own file.")
        return self._regions(inputs, outputs, shape)

    def _count(self, letter: str) -> int:
        numbers = {int(name[2:]) for name in self.declared if name[0] == letter}
        if not numbers or numbers != set(range(len(numbers))):
            raise InputError(f"declare {letter}_0, {letter}_1, ... without a gap; {len(numbers)} are declared.")
        return len(numbers)

    # ------------------------------------------------------------ formulas

    def _assert(self, condition: Term, line: int) -> None:
        clauses = self._clauses(condition, line)
        if len(clauses) == 1:
            _add(self.base, clauses[0])
        else:
            self.choices.append([_add(Case(), clause) for clause in clauses])

    def _clauses(self, term: Term, line: int) -> list[list[Atom]]:
        """The formula as a disjunction of conjunctions of atoms."""
        match term:
            case ["and", *parts] if parts:
                options = [self._clauses(part, _line(part, line)) for part in parts]
                size = 1
                for option in options:
                    size *= len(option)
                    _check_size(size, line)
                return [[atom for clause in combination for atom in clause] for combination in product(*options)]
            case ["or", *parts] if parts:
                return [clause for part in parts for clause in self._clauses(part, _line(part, line))]
            case ["<=", left, right]:
                return [[self._atom(left, right, _line(term, line))]]
            case [">=", left, right]:
                return [[self._atom(right, left, _line(term, line))]]
        raise InputError(f"line {line}: write a condition with and, or, <= or >= here, not {_show(term)}.")

    def _atom(self, left: Term, right: Term, line: int) -> Atom:
        weights, offset = self._linear(left, line)
        subtracted, constant = self._linear(right, line)
        for name, value in subtracted.items():
            weights[name] = weights.get(name, 0.0) - value
        return Atom({name: w for name, w in weights.items() if w != 0}, offset - constant, line)

    def _linear(self, term: Term, line: int) -> tuple[dict[str, float], float]:
        """A term as weights of variables and a constant."""
        if isinstance(term, str):
            if _VARIABLE.fullmatch(term):
                if term not in self.declared:
                    raise InputError(f"line {line}: {term} is not declared; add (declare-const {term} Real) above.")
                return {term: 1.0}, 0.0
            return {}, _number(term, line)
        match term:
            case ["-", part]:
                return _scale(self._linear(part, line), -1.0)
            case ["+" | "-" as sign, first, *rest] if rest:
                weights, offset = self._linear(first, line)
                for part in rest:
                    more, constant = _scale(self._linear(part, line), 1.0 if sign == "+" else -1.0)
                    offset += constant
                    for name, value in more.items():
                        weights[name] = weights.get(name, 0.0) + value
                return weights, offset
            case ["*", left, right]:
                a, b = self._linear(left, line), self._linear(right, line)
                if a[0] and b[0]:
                    raise InputError(f"line {line}: a product of two variables is not linear; scale by constants only.")
                return _scale(a, b[1]) if a[0] else _scale(b, a[1])
        raise InputError(f"line {line}: write a linear term with +, - and * here, not {_show(term)}.")

    # ------------------------------------------------------------ regions

    def _regions(self, inputs: int, outputs: int, shape: tuple[int, ...]) -> list[Region]:
        size = 1
        for choice in self.choices:
            size *= len(choice)
            _check_size(size, 0)
        lower = np.full(inputs, -np.inf)
        upper = np.full(inputs, np.inf)
        _tighten(lower, upper, self.base)
        boxes: dict[bytes, tuple[np.ndarray, np.ndarray, list[list[Atom]]]] = {}
        for combination in product(*self.choices):
            low, high = lower.copy(), upper.copy()
            for case in combination:
                _tighten(low, high, case)
            if (low > high).any():
                continue
            clause = self.base.rows + [atom for case in combination for atom in case.rows]
            if all(atom.weights or atom.offset <= 0 for atom in clause):
                key = low.tobytes() + high.tobytes()
                boxes.setdefault(key, (low, high, []))[2].append([atom for atom in clause if atom.weights])
        return [_region(*entry, outputs, shape) for entry in boxes.values()]


def _line(term: Term, line: int) -> int:
    return term.line if isinstance(term, Form) else line


def _show(term: Term) -> str:
    return repr(term) if isinstance(term, str) else f"({' '.join(str(word) for word in term[:1])} ...)"


def _check_size(size: int, line: int) -> None:
    if size > MAX_CASES:
        where = f"line {line}: " if line else ""
        raise InputError(f"{where}the assertions multiply to more than {MAX_CASES} cases; split the file.")


def _number(word: str, line: int) -> float:
    try:
        value = float(word)
    except ValueError:
        raise InputError(f"line {line}: {word!r} is neither a number nor a variable X_i or Y_i.") from None
    if not np.isfinite(value):
        raise InputError(f"line {line}: {word!r} is not a finite number; write a decimal.")
    return value


def _scale(term: tuple[dict[str, float], float], factor: float) -> tuple[dict[str, float], float]:
    return {name: w * factor for name, w in term[0].items()}, term[1] * factor


def _add(case: Case, clause: list[Atom]) -> Case:
    """Put a clause's atoms into a case: one-input atoms as bounds, output atoms (and constant ones) as rows."""
    for atom in clause:
        names = list(atom.weights)
        if all(name[0] == "Y" for name in names):
            case.rows.append(atom)
        elif len(names) == 1:
            number, weight = int(names[0][2:]), atom.weights[names[0]]
            edge = -atom.offset / weight
            if weight > 0:
                case.upper[number] = min(edge, case.upper.get(number, np.inf))
            else:
                case.lower[number] = max(edge, case.lower.get(number, -np.inf))
        else:
            raise InputError(
                f"line {atom.line}: a constraint on inputs may name one input only; {', '.join(names)} stand together."
            )
    return case


def _tighten(lower: np.ndarray, upper: np.ndarray, case: Case) -> None:
    for number, edge in case.lower.items():
        lower[number] = max(lower[number], edge)
    for number, edge in case.upper.items():
        upper[number] = min(upper[number], edge)


def _region(
    low: np.ndarray, high: np.ndarray, clauses: list[list[Atom]], outputs: int, shape: tuple[int, ...]
) -> Region:
    unbounded = np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high))
    if len(unbounded):
        raise InputError(f"the input X_{unbounded[0]} has no lower or no upper bound; assert both.")
    weight = np.zeros((sum(max(1, len(clause)) for clause in clauses), outputs))
    offset, group, row = np.zeros(len(weight)), np.zeros(len(weight), dtype=np.int64), 0
    for number, clause in enumerate(clauses):
        for atom in clause:
            for name, value in atom.weights.items():
                weight[row, int(name[2:])] = value
            offset[row], group[row] = atom.offset, number
            row += 1
        if not clause:  # unsafe whatever the outputs are: a row that is 0 everywhere
            group[row] = number
            row += 1
    low, high = _deployable(low, high)
    threat = Box(lower=torch.from_numpy(low).reshape(shape), upper=torch.from_numpy(high).reshape(shape))
    return Region(threat, Linear(torch.from_numpy(weight), torch.from_numpy(offset), torch.from_numpy(group)))


def _deployable(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widen the intervals that hold no float32 number to the nearest one."""
    near = ((low + high) / 2).astype(np.float32).astype(np.float64)
    above = np.nextafter(low.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    rounded = low.astype(np.float32).astype(np.float64)
    empty = np.where(rounded >= low, rounded, above) > high
    return np.where(empty, np.minimum(low, near), low), np.where(empty, np.maximum(high, near), high)
