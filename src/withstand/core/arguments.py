"""Arguments of the library's verbs, held against their annotations: what does not fit gets one sentence."""

import functools
import inspect
import math
import types
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from withstand.core.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 2**63
"""Whole numbers lie below it, in size."""

_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


def checked(verb: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a call whose arguments are not of the annotated types raises InputError, which names the argument.

    Numbers of numpy become Python's, arrays lists. Annotations in quotes are not looked at: models and data are read by
    functions with sentences of their own.
    """
    signature = inspect.signature(verb)
    forms = {name: one.annotation for name, one in signature.parameters.items() if not _is_open(one.annotation)}

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if name in forms:
                given.arguments[name] = _fitted(name, value, forms[name])
        return verb(*given.args, **given.kwargs)

    return call


def _is_open(form: Any) -> bool:
    return form is inspect.Parameter.empty or form is Any or isinstance(form, str)


def _fitted(name: str, value: Any, form: Any) -> Any:
    fits, made = _fit(value, form)
    if fits:
        return made
    words = [_word(part) for part in _parts(form) if part is not type(None)]
    shown = repr(value) if isinstance(value, str | int | float) and len(repr(value)) < 60 else type(value).__name__
    raise InputError(f"The argument {name} must be {' or '.join(dict.fromkeys(words))}, not {shown}; correct it.")


def _fit(value: Any, form: Any) -> tuple[bool, Any]:
    """Whether a value is of a form, and the value as Python has it."""
    origin = get_origin(form) or form
    if len(_parts(form)) > 1:
        return next((found for part in _parts(form) if (found := _fit(value, part))[0]), (False, None))
    if form is int:
        return (True, int(value)) if _is_whole(value) else (False, None)
    if form is float:
        return (True, value if _is_whole(value) else float(value)) if _is_number(value) else (False, None)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(form), value
    if origin is Sequence:
        return _listed(value, get_args(form)[0])
    if origin is Callable:
        return callable(value), value
    shape_alone = getattr(origin, "_is_protocol", False) and not getattr(origin, "_is_runtime_protocol", False)
    if isinstance(origin, type) and not shape_alone:
        return isinstance(value, origin), value
    return origin is PathLike and isinstance(value, PathLike), value


def _parts(form: Any) -> tuple[Any, ...]:
    """The forms that a union joins."""
    return get_args(form) if get_origin(form) in (Union, types.UnionType) else (form,)


def _listed(value: Any, form: Any) -> tuple[bool, Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False, None
    parts = [_fit(one, form) for one in value]
    return all(fits for fits, _ in parts), [made for _, made in parts]


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < LARGEST


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, Real) and not isinstance(value, Integral) and not math.isnan(value))


def _word(form: Any) -> str:
    origin = get_origin(form) or form
    if origin is Sequence:
        inner = get_args(form)[0]
        if inner in (int, float):
            return "a list of numbers, as in [0.1, 0.2]"
        return "a list of texts, as in ['pgd']" if inner is str else "a list of such"
    if origin is Literal:
        return " or ".join(map(repr, get_args(form)))
    if origin is PathLike:
        return "a path"
    return "a function" if origin is Callable else _WORDS.get(form, f"a {getattr(origin, '__name__', form)}")
