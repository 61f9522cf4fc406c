"""Properties from texts: the built-in ones, and the user's own by import path."""

from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.evidence import Loss
from withstand.core.property import Property, Rows
from withstand.core.property_text import FORMS, parse_property
from withstand.io.callables import check_callable
from withstand.io.factories import call_factory, parse_arguments
from withstand.io.importing import find
from withstand.io.written import Written

BUILT_IN = ("argmax", "not-class", "top-k", "binary", "multi-label", "band")


@dataclass(frozen=True)
class Imported(Property):
    """A user's property under the text that finds it again."""

    text: str
    inner: Property

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", self.inner.losses)
        object.__setattr__(self, "reads", self.inner.reads)
        object.__setattr__(self, "needs_y", self.inner.needs_y)

    def __str__(self) -> str:
        return self.text

    def answer(self, outputs: Tensor) -> Tensor:
        """As the user's property says."""
        return self.inner.answer(outputs)

    def label(self, y: Tensor) -> Tensor:
        """As the user's property says."""
        return self.inner.label(y)

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        """As the user's property says."""
        return self.inner.rows(y, outputs, dtype)

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """As the user's property says."""
        return self.inner.targets(outputs, y)

    def margin(self, outputs: Tensor, y: Tensor) -> Tensor:
        """As the user's property says."""
        return self.inner.margin(outputs, y)

    def loss(self, name: Loss, outputs: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """As the user's property says."""
        return self.inner.loss(name, outputs, y, target)


def load_property(source: str | Property | Written) -> Property:
    """The property that a text names: built in, or `package.module:NAME` of the user's own, where NAME is a Property,
    a subclass of it, or a function that returns one; `?name=value&name=value` gives it arguments.

    Raises InputError, one sentence with the fix, when there is no such property, it cannot be made, or it may not be
    called (see `withstand.io.callables`); nothing is imported for a text from a file that is not trusted.
    """
    if isinstance(source, Property):
        return source
    if not isinstance(source, str | Written):
        raise InputError(f"A property must be text or a Property, not {type(source).__name__}; write {FORMS}.")
    text = str(source).strip()
    where, _, query = text.partition("?")
    module, colon, attribute = where.partition(":")
    if module in BUILT_IN or not (colon and _dotted(module) and _dotted(attribute)):
        return parse_property(text)
    given = parse_arguments(query)
    if isinstance(source, Written):
        source.must_be_trusted("property")
    held = find(module, attribute)
    if not isinstance(held, Property):
        if not callable(held):
            raise InputError(f"{where} is {type(held).__name__}; name a Property, or a function that returns one.")
        check_callable(where, held, Property, declared=isinstance(source, Written))
        held = call_factory(where, held, given)
    if not isinstance(held, Property):
        raise InputError(f"{where} returned {type(held).__name__}; it must return a withstand.core.property.Property.")
    return Imported(text, held)


def _dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
