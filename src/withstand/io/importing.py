"""What an importable module holds under a name that the user wrote."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from withstand.core.errors import InputError
from withstand.core.registry import suggest
from withstand.io.homes import Home, home_of_module

HUBS = {"timm": "timm", "transformers": "hf"}
"""Packages with a form of MODEL of their own (see `withstand.io.hubs`)."""

_SPECIAL = re.compile(r"__\w*__")


def find(module: str, attribute: str) -> Any:
    """What an importable module, of the current folder too, holds under a dotted name.

    Raises InputError when either is not there, the import fails, a name has double underscores, or the module is one
    of which nothing is called (of the standard library, or in `withstand.io.homes.LOADERS`); that is not imported.
    """
    name = f"{module}:{attribute}"
    if module != "__main__" and any(map(_SPECIAL.fullmatch, f"{module}.{attribute}".split("."))):
        raise InputError(f"{name} is not looked up: names with double underscores are Python's own; name a function.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
        importlib.invalidate_caches()
    home, top = home_of_module(module), module.partition(".")[0]
    if home is Home.STANDARD:
        raise InputError(
            f"{name} is not called: {top} is part of Python, which makes no models and no properties; name a function "
            "of your own."
        )
    if home is Home.LOADER and top != "torch":
        instead = f"write {HUBS[top]}:NAME, or " if top in HUBS else ""
        raise InputError(
            f"{name} is not called: {top} may read pickles or run what it is told; {instead}name a function of your "
            "own that returns the module."
        )
    return _attribute(_import(module), attribute)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if not (name == missing or name.startswith(missing + ".")):
            raise InputError(f"Importing {name} needs the package {missing!r}; install it.") from None
        around = [path.stem for path in Path.cwd().glob("*.py")]
        hint = suggest(missing, around) if around else "correct the name or start in the folder that holds it."
        raise InputError(f"There is no Python module {missing!r} to import; {hint}") from None
    except (Exception, SystemExit) as error:
        raise InputError(
            f"Importing {name} failed with {type(error).__name__}: {line_of(error)}; repair the module."
        ) from error


def _attribute(module: ModuleType, path: str) -> Any:
    value: Any = module
    for name in path.split("."):
        if not hasattr(value, name):
            known = [key for key in dir(value) if not key.startswith("_") and callable(getattr(value, key, None))]
            hint = suggest(name, known) if known else "it defines no function."
            raise InputError(f"The module {module.__name__} has no {name!r}; {hint}")
        value = getattr(value, name)
    return value


def line_of(error: BaseException) -> str:
    """An error's message on one line of at most 200 characters, without its full stop."""
    text = " ".join(str(error).split()).rstrip(".;") or "no message"
    return text if len(text) <= 200 else text[:197] + "..."
