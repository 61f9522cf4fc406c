"""VNN-LIB 2.0 through the package `vnnlib`: one network, its input and its output declared with shapes."""

import json
import math
import re
from functools import reduce
from typing import TYPE_CHECKING, Any

from withstand.core.errors import InputError
from withstand.io.vnnlib.decimals import exact
from withstand.io.vnnlib.forms import parse_forms
from withstand.io.vnnlib.formula import ONE, Asserted, Clauses, Sum, compare, conjunction

if TYPE_CHECKING:
    import vnnlib

FLOATS = {"F16", "BF16", "F32", "F64"}
SIGNS = {
    "LessThan": "<",
    "LessEqual": "<=",
    "GreaterThan": ">",
    "GreaterEqual": ">=",
    "Equal": "==",
    "NotEqual": "!=",
}
_HEAD = re.compile(r"\(\s*(?:vnnlib-version|declare-network)\b")
_STRING = re.compile(r'"[^"\n]*"')


def is_version_2(text: str) -> bool:
    """Whether a file states the version or declares a network, as this version asks."""
    bare = "\n".join(line.partition(";")[0] for line in text.splitlines())
    return _HEAD.search(bare) is not None


def read(text: str) -> Asserted:
    """What a file of this version asserts, elements of arrays numbered in C order.

    Raises InputError with the line, or for several networks, inputs or outputs, hidden nodes, and terms that are not
    linear.
    """
    query = _parse(text)
    if len(query.networks) != 1:
        raise InputError(f"the file is about {len(query.networks)} networks; only questions about one are answered.")
    network = query.networks[0]
    if network.equal_to or network.isometric_to:
        raise InputError("the file compares its network with another; only questions about one are answered.")
    if network.hidden:
        raise InputError(f"the file names the hidden node {network.hidden[0].name}; only inputs and outputs may be.")
    sizes = []
    for what, declared in (("input", network.inputs), ("output", network.outputs)):
        if len(declared) != 1:
            raise InputError(f"the file declares {len(declared)} {what}s of the network; only one is understood.")
        if declared[0].dtype.name not in FLOATS:
            raise InputError(f"the {what} {declared[0].name} is declared {declared[0].dtype.name}, no float type.")
        sizes.append(math.prod(declared[0].shape))
    return Asserted(sizes[0], sizes[1], [_clauses(one.expr) for one in query.assertions])


def _parse(text: str) -> "vnnlib.Query":
    try:
        import vnnlib
    except ImportError:
        raise InputError(
            "VNN-LIB 2.0 is read by the package vnnlib, which is not installed; run pip install 'withstand[vnnlib]'."
        ) from None
    for _ in parse_forms(_STRING.sub('""', text)):
        pass  # refuses nesting that the package's parser would not survive
    try:
        return vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException as error:
        raise InputError(_sentence(str(error))) from None


def _sentence(told: str) -> str:
    """The package's complaint, which may be JSON, in a sentence."""
    try:
        first = json.loads(told)["errors"][0]
    except (ValueError, KeyError, IndexError):
        return f"the package vnnlib cannot read it: {told.strip().rstrip('.')}."
    return f"line {first['line']}: {first['message']} at {first['offendingSymbol']}: {first['hint'].rstrip('.')}."


def _clauses(expression: Any) -> Clauses:
    kind = type(expression).__name__
    if kind == "And":
        return conjunction([_clauses(part) for part in expression.args], 0)
    if kind == "Or":
        return [clause for part in expression.args for clause in _clauses(part)]
    if kind not in SIGNS:
        raise InputError(f"{expression} is no comparison, and or or; only these are understood.")
    return compare(SIGNS[kind], _linear(expression.lhs), _linear(expression.rhs), _line(expression))


def _linear(expression: Any) -> Sum:
    """A term with its numbers as the file writes them, which the package's own reading rounds."""
    import vnnlib

    kind = type(expression).__name__
    if kind == "Var":
        letter = "X" if expression.kind == vnnlib.SymbolKind.Input else "Y"
        return Sum({(letter, _flat(expression)): ONE})
    parts = [_linear(part) for part in expression.children()]
    match kind:
        case "Negate":
            return parts[0].scaled(-ONE)
        case "Plus":
            return reduce(Sum.plus, parts)
        case "Minus":
            return reduce(Sum.minus, parts)
        case "Multiply":
            if sum(bool(part.weights) for part in parts) > 1:
                raise InputError(f"{expression} is not linear; multiply variables by numbers only.")
            factor = math.prod((part.constant for part in parts if not part.weights), start=ONE)
            return next((part for part in parts if part.weights), Sum({}, ONE)).scaled(factor)
    value = exact(str(expression.lexeme)) if hasattr(expression, "lexeme") else None
    if value is None:
        raise InputError(f"{expression} is no number; write a decimal.")
    return Sum({}, value)


def _line(expression: Any) -> int:
    """The line of its first variable or number, 0 where there is none."""
    return getattr(expression, "line", 0) or next(filter(None, map(_line, expression.children())), 0)


def _flat(variable: "vnnlib.Var") -> int:
    place = 0
    for index, size in zip(variable.indices, variable.shape, strict=True):
        place = place * size + index
    return place
