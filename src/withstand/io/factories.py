"""Modules built by the user's own Python: `package.module:factory?arg=1&weights=file.safetensors`."""

import ast
import inspect
import json
from typing import Any

from torch import nn

from withstand.core.errors import InputError
from withstand.io.callables import check_callable
from withstand.io.importing import find, line_of
from withstand.io.weights import load_weights
from withstand.io.written import Written


def build_module(source: str | Written) -> nn.Module:
    """The module that a factory makes: a function, a class of module, or a module itself, of any importable file.

    The current folder is importable too. Arguments are JSON or Python literals (`depth=3`, `wide=true`,
    `sizes=[8,16]`), else text. `weights=FILE` goes to the factory where it has such a parameter; else the file's
    tensors are loaded into the module it makes. What may be called is told by `withstand.io.callables`.

    Raises InputError when the module or factory is not there or may not be called, an argument does not fit, or the
    factory fails; nothing is imported for a text from a file that is not trusted.
    """
    text = str(source)
    where, _, query = text.partition("?")
    module_name, _, attribute = where.partition(":")
    if not (module_name and attribute) or "/" in where or module_name.endswith(".py"):
        raise InputError(
            f"Model {text!r} is not understood; write it as package.module:factory, without slashes or .py."
        )
    given = parse_arguments(query)
    if isinstance(source, Written):
        source.must_be_trusted("model")
    factory = find(module_name, attribute)
    if isinstance(factory, nn.Module):
        module = factory
        weights = given.pop("weights", None)
        if given:
            raise InputError(f"{where} is a module, not a factory; it takes no arguments but weights=FILE.")
    elif callable(factory):
        check_callable(where, factory, nn.Module, declared=isinstance(source, Written))
        weights = None if "weights" not in given or _takes(factory, "weights") else given.pop("weights")
        module = call_factory(where, factory, given)
        if not isinstance(module, nn.Module):
            raise InputError(f"{where} returned {type(module).__name__}; a factory returns a torch.nn.Module.")
    else:
        raise InputError(f"{where} is {type(factory).__name__}; name a function that returns a torch module.")
    if weights is not None:
        _fill(module, str(weights))
    return module


def parse_arguments(query: str) -> dict[str, Any]:
    """`a=1&b=true&c=word` as values by name. Raises InputError where a part is not name=value."""
    given = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"Write arguments as ?name=value&name=value, not {part!r}.")
        given[name] = _literal(value)
    return given


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _takes(factory: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def call_factory(where: str, factory: Any, given: dict[str, Any]) -> Any:
    """What a factory makes. `where` names it in sentences. InputError: the arguments do not fit, or it fails."""
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise InputError(
            f"{where} does not take these arguments ({line_of(error)}); correct them after the '?'."
        ) from None
    except ValueError:
        pass
    try:
        return factory(**given)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{where} failed with {type(error).__name__}: {line_of(error)}; repair it or its arguments."
        ) from error


def _fill(module: nn.Module, path: str) -> None:
    try:
        module.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise InputError(
            f"The weights {path} do not fit the module: {line_of(error)}; give those of this model."
        ) from None
