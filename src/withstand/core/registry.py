"""One registry for every kind of component: a module's presence in the kind's folder is its registration.

A component is a frozen keyword-only dataclass whose fields are its parameters. Its docstring is its help text and names
its reference; a missing docstring, reference or default fails at import.
"""

import dataclasses
import difflib
import importlib
import importlib.metadata
import math
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le

from withstand.core.errors import InputError

T = TypeVar("T")

Count = Annotated[int, Ge(1)]
"""Type of a parameter that counts: at least 1 (checked by `build`)."""

Natural = Annotated[int, Ge(0)]
"""Type of a parameter that may be zero or count (checked by `build`)."""

Positive = Annotated[float, Gt(0)]
"""Type of a parameter that is a positive number (checked by `build`)."""

NonNegative = Annotated[float, Ge(0)]
"""Type of a parameter that is zero or a positive number (checked by `build`)."""

Share = Annotated[float, Gt(0), Le(1)]
"""Type of a parameter that is a share of a whole, above 0 and at most 1 (checked by `build`)."""

FOLDERS = {
    "attack": "withstand.attacks",
    "universal": "withstand.attacks.universal",
    "verifier": "withstand.verification.methods",
    "objective": "withstand.hardening.objectives",
    "addition": "withstand.hardening.additions",
}
"""Kind of component to the package whose modules define it; entry points of the group `withstand.<kind>s` add to it."""

_TABLE: dict[tuple[str, str], type] = {}
_REFERENCE = re.compile(r"arXiv:|doi:|Reference:", re.IGNORECASE)


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def register(kind: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make it a frozen keyword-only dataclass and list it under `kind` by its kebab-case name.

    Raises TypeError when the docstring, its reference (arXiv:, doi: or Reference:) or a field's default is missing, and
    ValueError when the name is taken.
    """

    def add(cls: type[T]) -> type[T]:
        if not (cls.__doc__ or "").strip():
            raise TypeError(f"{kind} {cls.__name__} needs a docstring: it is the help text.")
        if not _REFERENCE.search(cls.__doc__ or ""):
            raise TypeError(f"{kind} {cls.__name__} needs a reference in its docstring (arXiv:, doi: or Reference:).")
        made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        for field in dataclasses.fields(made):  # type: ignore[arg-type]
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise TypeError(f"{kind} {cls.__name__}: parameter {field.name!r} needs a default.")
        name = _kebab(cls.__name__)
        if (kind, name) in _TABLE:
            raise ValueError(f"{kind} {name!r} is defined twice.")
        _TABLE[kind, name] = made
        return made

    return add


@cache
def _discover(kind: str) -> None:
    package = importlib.import_module(FOLDERS[kind])
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    for point in importlib.metadata.entry_points(group=f"withstand.{kind}s"):
        point.load()


def components(kind: str) -> dict[str, type]:
    """Every component of a kind by name, those of installed plugins included."""
    _discover(kind)
    return {name: cls for (k, name), cls in sorted(_TABLE.items()) if k == kind}


def name_of(component: object) -> str:
    """The registered name of a component or of its class."""
    cls = component if isinstance(component, type) else type(component)
    return _kebab(cls.__name__)


def describe(component: Any) -> str:
    """A component as text that `build` reads back: its name and the parameters that differ from their defaults."""
    changed = [
        f"{f.name}={getattr(component, f.name)}"
        for f in dataclasses.fields(component)
        if f.repr and getattr(component, f.name) != f.default
    ]
    return name_of(component) + (":" + ",".join(changed) if changed else "")


def suggest(word: str, known: list[str]) -> str:
    """The end of an error sentence: the nearest known word, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "choose one of " + ", ".join(known) + "."


def build(kind: str, text: str) -> Any:
    """A component from text such as `pgd:steps=100,restarts=5`.

    Raises InputError naming the near miss when the name or a parameter is unknown, or the value that does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    name, _, rest = text.strip().partition(":")
    table = components(kind)
    if name not in table:
        raise InputError(f"There is no {kind} {name!r}; {suggest(name, list(table))}")
    cls = table[name]
    known = [f.name for f in dataclasses.fields(cls)]
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{kind} {name!r}: write parameters as name=value, not {part!r}.")
        if key.strip() in given:
            raise InputError(f"{kind} {name!r} is given {key.strip()!r} twice; keep one of them.")
        if key.strip() not in known:
            hint = suggest(key.strip(), known) if known else "it has none."
            raise InputError(f"{kind} {name!r} has no parameter {key.strip()!r}; {hint}")
        given[key.strip()] = value.strip()
    try:
        made = TypeAdapter(cls).validate_python(given)
        for field in given:
            value = getattr(made, field)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{kind} {name!r}: {field}={given[field]!r} cannot be meant; give a finite number.")
        return made
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            raise InputError(f"{kind} {name!r}: {cause}") from None
        where = ".".join(map(str, first["loc"])) or "its parameters"
        raise InputError(f"{kind} {name!r}: {where}={first['input']!r} does not fit: {first['msg']}.") from None


def build_attack(text: str) -> Any:
    """An attack, or a universal attack, from text as of `build`."""
    return build("universal" if text.partition(":")[0].strip() in components("universal") else "attack", text)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def attack(cls: type[T]) -> type[T]:
    """Class decorator of an attack: ClassVars `norms` (threats it works in) and `access` (what it needs of the model),
    and `search(x0, threat, rng)`, a generator that yields `Ask` and receives `Told`."""
    return register("attack")(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def universal(cls: type[T]) -> type[T]:
    """Class decorator of a universal attack, one perturbation for all inputs: ClassVars `norms` and `access` as those
    of an attack, `fit` and `apply` (see `withstand.core.universal.Universal`)."""
    return register("universal")(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def verifier(cls: type[T]) -> type[T]:
    """Class decorator of a verifier: `prove(problem)`, an anytime generator of evidence."""
    return register("verifier")(cls)
