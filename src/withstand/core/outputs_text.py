"""Conditions on outputs from text: `out[3] > out[other] & (out[0] < 2 | out[2] > 0)`.

The text is read by Python's grammar but never run. Other than in Python, `&` and `|` (or `and` and `or`) bind looser
than comparisons, and comparisons chain: `0 < out[0] < 1`.
"""

import ast
import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from withstand.core.errors import InputError
from withstand.core.outputs import Condition, Sum, as_sum, other, out

LONGEST = 10_000
"""Characters of a text at most."""

FORM = "write comparisons of out[0], out[1], ... and numbers joined by & and |, as in out[3] > out[other] & out[0] < 2"

_ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ABOVE: dict[type[ast.AST], bool] = {ast.Gt: True, ast.GtE: True, ast.Lt: False, ast.LtE: False}
"""Comparisons to whether their left side is to be above the right one."""


def parse_condition(text: str) -> Condition:
    """The condition that a text writes.

    Raises InputError with the part that is not understood and the form to write.
    """
    if len(text) > LONGEST:
        raise InputError(f"A property of {len(text)} characters is too long; use {LONGEST} at most.")
    source = text.strip().replace("&", " and ").replace("|", " or ")
    try:
        return _condition(ast.parse(source, mode="eval").body, source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"Property {text[:60]!r} is not understood; {FORM}.") from None


def _condition(node: ast.AST, source: str) -> Condition:
    match node:
        case ast.BoolOp(op, values):
            parts = [_condition(value, source) for value in values]
            joined = parts[0]
            for part in parts[1:]:
                joined = joined & part if isinstance(op, ast.And) else joined | part
            return joined
        case ast.Compare(left, signs, rights) if all(type(sign) in _ABOVE for sign in signs):
            sides = [as_sum(_value(side, source)) for side in (left, *rights)]
            found = [
                a > b if _ABOVE[type(sign)] else b > a for sign, (a, b) in zip(signs, pairwise(sides), strict=True)
            ]
            joined = found[0]
            for part in found[1:]:
                joined = joined & part
            return joined
    raise _error(node, source)


def _value(node: ast.AST, source: str) -> Sum | float:
    match node:
        case ast.Constant(int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Subscript(ast.Name("out"), ast.Constant(int() as index)) if not isinstance(index, bool):
            return out[index]
        case ast.Subscript(ast.Name("out"), ast.Name("other")):
            return out[other]
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, source)
        case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
            a, b = _value(left, source), _value(right, source)
            if isinstance(op, ast.Div) and not isinstance(b, Sum) and b == 0:
                raise _error(node, source)
            return _ARITHMETIC[type(op)](a, b)
    raise _error(node, source)


def _error(node: ast.AST, source: str) -> InputError:
    part = ast.get_source_segment(source, node) or source  # type: ignore[arg-type]
    return InputError(f"{part!r} is not understood in a property; {FORM}.")
