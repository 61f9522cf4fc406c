"""VNN-LIB 1.0: `declare-const` of inputs X_i and outputs Y_j, and assertions on them."""

import re
from fractions import Fraction

from withstand.core.errors import InputError
from withstand.io.vnnlib.decimals import LARGEST, exact, nearest
from withstand.io.vnnlib.forms import Form, Term, parse_forms
from withstand.io.vnnlib.formula import ONE, Asserted, Clauses, Sum, compare, conjunction

_VARIABLE = re.compile(r"([XY])_(\d+)")
_SIGNS = ("<=", ">=", "<", ">", "=")


def read(text: str, type: str) -> Asserted:
    """What a file of this version asserts about a network whose inputs are of a type (a key of `LARGEST`).

    Raises InputError with the line for text that is not VNN-LIB 1.0, and for numbers beyond the type's.
    """
    reader = _Reader(type)
    assertions: list[Clauses] = []
    for form in parse_forms(text):
        match form:
            case ["declare-const", str() as name, "Real"] if _VARIABLE.fullmatch(name):
                if name in reader.declared:
                    raise InputError(f"line {form.line}: {name} is declared twice; remove one declaration.")
                reader.declared.add(name)
            case ["assert", condition]:
                assertions.append(reader.clauses(condition, form.line))
            case _:
                raise InputError(
                    f"line {form.line}: write (declare-const X_i Real), (declare-const Y_i Real) or (assert ...)."
                )
    return Asserted(reader.count("X"), reader.count("Y"), assertions)


class _Reader:
    """The names declared so far, and what formulas over them mean."""

    def __init__(self, type: str) -> None:
        self.declared: set[str] = set()
        self.type = type

    def count(self, letter: str) -> int:
        numbers = {int(name[2:]) for name in self.declared if name[0] == letter}
        if not numbers or numbers != set(range(len(numbers))):
            raise InputError(f"declare {letter}_0, {letter}_1, ... without a gap; {len(numbers)} are declared.")
        return len(numbers)

    def clauses(self, term: Term, line: int) -> Clauses:
        match term:
            case ["and", *parts] if parts:
                return conjunction([self.clauses(part, _line(part, line)) for part in parts], line)
            case ["or", *parts] if parts:
                return [clause for part in parts for clause in self.clauses(part, _line(part, line))]
            case [str() as sign, left, right] if sign in _SIGNS:
                line = _line(term, line)
                return compare("==" if sign == "=" else sign, self.linear(left, line), self.linear(right, line), line)
        raise InputError(f"line {line}: write a condition with and, or, <=, >=, <, > or = here, not {_show(term)}.")

    def linear(self, term: Term, line: int) -> Sum:
        if isinstance(term, str):
            if (found := _VARIABLE.fullmatch(term)) is None:
                return Sum({}, self.number(term, line))
            if term not in self.declared:
                raise InputError(f"line {line}: {term} is not declared; add (declare-const {term} Real) above.")
            return Sum({("X" if found[1] == "X" else "Y", int(found[2])): ONE})
        match term:
            case ["-", part]:
                return self.linear(part, line).scaled(-ONE)
            case ["+" | "-" as sign, first, *rest] if rest:
                total = self.linear(first, line)
                for part in rest:
                    more = self.linear(part, line)
                    total = total.plus(more) if sign == "+" else total.minus(more)
                return total
            case ["*", left, right]:
                a, b = self.linear(left, line), self.linear(right, line)
                if a.weights and b.weights:
                    raise InputError(f"line {line}: a product of two variables is not linear; scale by constants only.")
                return a.scaled(b.constant) if a.weights else b.scaled(a.constant)
        raise InputError(f"line {line}: write a linear term with +, - and * here, not {_show(term)}.")

    def number(self, word: str, line: int) -> Fraction:
        try:
            value = exact(word)
        except InputError as error:
            raise InputError(f"line {line}: {error}") from None
        if value is None:
            raise InputError(f"line {line}: {word!r} is neither a number nor a variable X_i or Y_i.")
        if not abs(nearest(value)) <= (largest := LARGEST[self.type]):
            below = f"write a decimal below {largest:.2g}"
            raise InputError(f"line {line}: {word!r} is not a finite number of {self.type}; {below}.")
        return value


def _line(term: Term, line: int) -> int:
    return term.line if isinstance(term, Form) else line


def _show(term: Term) -> str:
    return repr(term) if isinstance(term, str) else f"({' '.join(str(word) for word in term[:1])} ...)"
