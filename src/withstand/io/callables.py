"""What an import path may call: factories of modules and properties, told from everything else before the call."""

import functools
import inspect
import types
from typing import Any, TypeVar

from withstand.core.errors import InputError
from withstand.io.homes import Home, home_of_code

T = TypeVar("T")

MARK = "__withstand_factory__"


def factory(made: T) -> T:
    """Decorator: this function makes a torch module or a property, and a file that the user trusts may name it.

    >>> import torch, withstand
    >>> @withstand.factory
    ... def small(width: int = 8):
    ...     return torch.nn.Linear(64, width)
    """
    setattr(made, MARK, True)
    return made


def check_callable(where: str, value: Any, base: type, declared: bool) -> None:
    """Raise InputError unless `value` may be called to make an instance of `base`.

    Classes must derive from it. Functions must be of the user's own files, or of an installed package and say by their
    annotation or by `factory` that they return one; never of the standard library, nor of packages that read pickles or
    run what they are told (`withstand.io.homes.LOADERS`). What wraps a function is as good as the function inside.
    declared: only classes and functions marked by `factory` will do, as for a text from a file.
    """
    what = "a torch module" if base.__name__ == "Module" else f"a {base.__name__}"
    inner, marked = _inside(value)
    if isinstance(inner, type):
        _check_class(where, inner, base, what)
        return
    own = f"name a function of your own that returns {what}."
    home, promise = home_of_code(inner), _promise(value)
    if home is Home.STANDARD:
        raise InputError(f"{where} is not called: it is part of Python, which makes no such thing; {own}")
    if home is Home.LOADER:
        top = str(inner.__module__).partition(".")[0]
        raise InputError(f"{where} is not called: functions of {top} may read pickles or run what they are told; {own}")
    if home is Home.INSTALLED and promise is None and not marked:
        raise InputError(f"{where} is not called: it does not say (-> Type) that it returns {what}; {own}")
    if isinstance(promise, type) and not _may_be(promise, base):
        raise InputError(f"{where} is not called: it returns {promise.__name__}; {own}")
    if declared and not marked:
        raise InputError(
            f"{where} is named by a file and not marked as a factory; put @withstand.factory above it, or name it "
            "yourself."
        )


def _check_class(where: str, value: type, base: type, what: str) -> None:
    if not issubclass(value, base):
        raise InputError(f"{where} is a class, but not of {what}; name a class or a function that makes one.")
    top = value.__module__.partition(".")[0]
    if home_of_code(value) is Home.LOADER and top != "torch":
        raise InputError(
            f"{where} is not called: classes of {top} may read pickles; build it in a function of your own."
        )


def _inside(value: Any) -> tuple[Any, bool]:
    """The function or class at the bottom of partial objects, decorators, methods and callable instances; whether any
    of them is marked as a factory."""
    marked = False
    for _ in range(100):
        marked = marked or getattr(value, "__dict__", {}).get(MARK) is True
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, types.MethodType):
            value = value.__func__
        elif isinstance(value, type):
            return value, marked
        elif "__wrapped__" in getattr(value, "__dict__", {}):
            value = value.__wrapped__
        elif isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.WrapperDescriptorType):
            return value, marked
        else:
            value = type(value).__call__
    raise InputError("A factory is wrapped a hundred times; name the function itself.")


def _promise(value: Any) -> Any:
    """The type that a callable is annotated to return, `type(None)` for None; None where it does not say."""
    try:
        said = inspect.signature(value, eval_str=True).return_annotation
    except Exception:  # annotations may name anything
        return None
    if said is inspect.Signature.empty or said is Any:
        return None
    return type(None) if said is None else said


def _may_be(promise: type, base: type) -> bool:
    try:
        return issubclass(promise, base) or issubclass(base, promise)
    except TypeError:
        return True
