"""Conditions on outputs, written as Python writes them, that are properties.

`out[3] > out[other]` says that output 3 is above all others; `(2 * out[0] - out[1] < 0.5) | (out[2] > 0)` joins linear
comparisons. A comparison holds where its margin, the difference of its sides, is positive: `>=` means `>`, since no
proof or witness tells them apart.
"""

import math
import operator
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import product
from numbers import Real
from typing import ClassVar, Final, TypeAlias

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.property import Linear, Property, Rows

MAX_ROWS = 10_000
"""Rows that a condition may multiply to."""

PARENTHESES = "`&` and `|` join comparisons, each in parentheses, as in (out[3] > out[1]) & (out[0] < 2)."


class Other(Enum):
    """The index that stands for every output which the comparison does not name."""

    OTHER = "other"


other: Final = Other.OTHER
"""Every output that the comparison does not name, as in `out[3] > out[other]`."""

Index: TypeAlias = int | Other
Row: TypeAlias = tuple[dict[int, float], float]
"""Weights of outputs and an offset: the value that is positive where the row holds."""


@dataclass(frozen=True, eq=False)
class Sum:
    """A linear combination of outputs and a number. Its comparisons with sums and numbers are conditions."""

    weights: Mapping[Index, float]
    offset: float = 0.0

    def __str__(self) -> str:
        parts = [(weight, f"out[{_name(index)}]") for index, weight in self.weights.items()]
        parts += [(self.offset, "")] if self.offset or not parts else []
        text = "".join(f" {'-' if weight < 0 else '+'} {_scaled(abs(weight), name)}" for weight, name in parts)
        return text.removeprefix(" + ") if text.startswith(" + ") else "-" + text.removeprefix(" - ")

    def __add__(self, more: "Sum | float") -> "Sum":
        weights, offset = dict(self.weights), self.offset
        more = as_sum(more)
        for index, weight in more.weights.items():
            weights[index] = weights.get(index, 0.0) + weight
        return Sum(weights, offset + more.offset)

    __radd__ = __add__

    def __mul__(self, factor: float) -> "Sum":
        if isinstance(factor, Sum):
            raise InputError(f"({self}) * ({factor}) is not linear; multiply outputs by numbers only.")
        factor = _number(factor)
        return Sum({index: weight * factor for index, weight in self.weights.items()}, self.offset * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Sum":
        if isinstance(divisor, Sum) or not divisor:
            raise InputError(f"({self}) / ({divisor}) is not linear; divide outputs by numbers other than 0 only.")
        return self * (1 / _number(divisor))

    def __rtruediv__(self, number: float) -> "Sum":
        raise InputError(f"{number} / ({self}) is not linear; divide outputs by numbers, not numbers by outputs.")

    def __neg__(self) -> "Sum":
        return self * -1.0

    def __sub__(self, less: "Sum | float") -> "Sum":
        return self + as_sum(less) * -1.0

    def __rsub__(self, more: "Sum | float") -> "Sum":
        return as_sum(more) - self

    def __gt__(self, right: "Sum | float") -> "Comparison":
        return Comparison(self, as_sum(right))

    def __lt__(self, right: "Sum | float") -> "Comparison":
        return Comparison(as_sum(right), self)

    __ge__, __le__ = __gt__, __lt__

    def __eq__(self, right: object) -> bool:
        raise InputError(f"Outputs are never exactly equal; say how far {self} may be off with two comparisons.")

    __ne__ = __eq__
    __hash__ = None  # type: ignore[assignment]

    def __and__(self, right: object) -> "Condition":
        raise InputError(PARENTHESES)

    __or__ = __rand__ = __ror__ = __and__


class Outputs:
    """The outputs of a model, flat: `out[0]` is the first, `out[other]` all those that a comparison does not name."""

    def __getitem__(self, index: Index) -> Sum:
        if index is other:
            return Sum({other: 1.0})
        try:
            number = operator.index(index)  # type: ignore[arg-type]
        except TypeError:
            number = -1
        if number < 0 or isinstance(index, bool):
            raise InputError(f"out[{index!r}] is no output; write a number counted from 0, or other.")
        return Sum({number: 1.0})


out: Final = Outputs()
"""The outputs of a model, for conditions such as `out[3] > out[other]`."""


class Condition(Property):
    """What must hold of the outputs, whatever y is. Conditions join by `&` (both) and `|` (at least one).

    Raises InputError, where its rows are asked for, when it names an output that the model does not have or multiplies
    to more than 10,000 rows.
    """

    needs_y: ClassVar[bool] = False

    @abstractmethod
    def clauses(self, outputs: int) -> list[list[Row]]:
        """Groups of rows: it holds where in each group some row is positive."""

    def __and__(self, more: "Condition") -> "Condition":
        return All((*_parts(self, All), *_parts(more, All)))

    def __or__(self, more: "Condition") -> "Condition":
        return Either((*_parts(self, Either), *_parts(more, Either)))

    def __bool__(self) -> bool:
        raise InputError(f"{self} is true or false of outputs only, so write & for and, | for or. {PARENTHESES}")

    @cached_property
    def _linear(self) -> dict[int, Linear]:
        return {}

    def linear(self, outputs: int) -> Linear:
        """The same property as rows over so many outputs."""
        if outputs not in self._linear:
            groups = self.clauses(outputs)
            weight = torch.zeros(sum(map(len, groups)), outputs, dtype=torch.float64)
            flat = [row for group in groups for row in group]
            for number, (weights, _) in enumerate(flat):
                for index, value in weights.items():
                    weight[number, index] = value
            offset = torch.tensor([offset for _, offset in flat], dtype=torch.float64)
            if not bool(weight.float().isfinite().all()) or not bool(offset.float().isfinite().all()):
                raise InputError(f"The property {_short(self)} holds numbers beyond 3.4e38, the largest of float32.")
            sizes = torch.tensor([len(group) for group in groups])
            self._linear[outputs] = Linear(weight, offset, torch.arange(len(groups)).repeat_interleave(sizes))
        return self._linear[outputs]

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        return self.linear(outputs).rows(y, outputs, dtype)


@dataclass(frozen=True, eq=False)
class Comparison(Condition):
    """The left side is above the right one."""

    left: Sum
    right: Sum

    def __str__(self) -> str:
        return f"{self.left} > {self.right}"

    def clauses(self, outputs: int) -> list[list[Row]]:
        margin = self.left - self.right
        named = {index: weight for index, weight in margin.weights.items() if isinstance(index, int)}
        if named and max(named) >= outputs:
            raise InputError(
                f"The property speaks of out[{max(named)}], the model has {outputs} outputs, 0 to {outputs - 1}."
            )
        if other not in margin.weights:
            return [[(named, margin.offset)]]
        rest = [index for index in range(outputs) if index not in named]
        if not rest:
            raise InputError(f"The property {self} names all {outputs} outputs, which leaves none for out[other].")
        return [[({**named, index: margin.weights[other]}, margin.offset)] for index in rest]


@dataclass(frozen=True, eq=False)
class All(Condition):
    """Every part holds."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " & ".join(f"({part})" if isinstance(part, Either) else str(part) for part in self.parts)

    def clauses(self, outputs: int) -> list[list[Row]]:
        groups = [clause for part in self.parts for clause in part.clauses(outputs)]
        _check(sum(map(len, groups)), self)
        return groups


@dataclass(frozen=True, eq=False)
class Either(Condition):
    """At least one part holds."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " | ".join(f"({part})" if isinstance(part, All) else str(part) for part in self.parts)

    def clauses(self, outputs: int) -> list[list[Row]]:
        groups: list[list[Row]] = [[]]
        for part in self.parts:
            more = part.clauses(outputs)
            _check(len(groups) * len(more), self)
            groups = [[*group, *clause] for group, clause in product(groups, more)]
            _check(sum(map(len, groups)), self)
        return groups


def _check(rows: int, condition: Condition) -> None:
    if rows > MAX_ROWS:
        raise InputError(f"The property {_short(condition)} multiplies to more than {MAX_ROWS} rows; join fewer by |.")


def _short(condition: Condition) -> str:
    text = str(condition)
    return text if len(text) <= 60 else text[:57] + "..."


def _parts(condition: object, kind: type[All] | type[Either]) -> tuple[Condition, ...]:
    if not isinstance(condition, Condition):
        raise InputError(PARENTHESES)
    return condition.parts if isinstance(condition, kind) else (condition,)


def as_sum(value: "Sum | float") -> Sum:
    """A number as a sum. Raises InputError where it is no finite number."""
    return value if isinstance(value, Sum) else Sum({}, _number(value))


def _number(value: object) -> float:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise InputError(f"{value!r} is no number to add to outputs or compare them with; write a finite one.")
    return number


def _name(index: Index) -> str:
    return "other" if isinstance(index, Other) else str(index)


def _scaled(weight: float, name: str) -> str:
    number = str(int(weight)) if weight == int(weight) and weight < 1e15 else repr(weight)
    return number if not name else name if weight == 1 else f"{number}*{name}"
