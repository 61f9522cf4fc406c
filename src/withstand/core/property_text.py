"""Properties as text: `argmax`, `not-class:3`, `top-k:5`, `multi-label`, `band:0.1`, `out[3] > out[other]`."""

from collections.abc import Callable

from withstand.core.errors import InputError
from withstand.core.labels import MultiLabel, TopK
from withstand.core.outputs_text import parse_condition
from withstand.core.property import Argmax, Band, NotClass, Property

FORMS = "argmax, not-class:CLASS, top-k:K, multi-label, band:WIDTH, out[3] > out[other] or package.module:NAME"
"""What a property may be written as; the last form is read by `withstand.io.properties`."""

_PLAIN: dict[str, Callable[[], Property]] = {"argmax": Argmax, "multi-label": MultiLabel}


def parse_property(text: str) -> Property:
    """A built-in property from its text, or a condition on outputs (see `withstand.core.outputs_text`).

    Raises InputError with the forms to write when it does not parse.
    """
    if "out[" in text:
        return parse_condition(text)
    name, _, value = text.strip().partition(":")
    try:
        if name in _PLAIN and not value:
            return _PLAIN[name]()
        if name == "not-class":
            return NotClass(int(value))
        if name == "top-k" and int(value) > 0:
            return TopK(int(value))
        if name == "band" and float(value) > 0:
            return Band(float(value))
    except ValueError:
        pass
    raise InputError(f"Property {text!r} is not understood; write {FORMS}.")
