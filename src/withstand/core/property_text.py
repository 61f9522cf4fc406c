"""Properties as text: `argmax`, `not-class:3`, `top-k:5`, `binary`, `multi-label:outputs=probabilities`, `band:0.1`,
`out[3] > out[other]`."""

from withstand.core.errors import InputError
from withstand.core.labels import TopK
from withstand.core.outputs_text import parse_condition
from withstand.core.property import Argmax, Band, NotClass, Property
from withstand.core.sides import Binary, MultiLabel, Sided, parse_sided

FORMS = "argmax, not-class:CLASS, top-k:K, binary, multi-label, band:WIDTH, out[3] > out[other] or package.module:NAME"
"""What a property may be written as; the last form is read by `withstand.io.properties`."""

_SIDED: dict[str, type[Sided]] = {kind.name: kind for kind in (Binary, MultiLabel)}
_SIDES = "outputs=logits or outputs=probabilities, threshold=NUMBER, or both with a comma"


def parse_property(text: str) -> Property:
    """A built-in property from its text, or a condition on outputs (see `withstand.core.outputs_text`).

    Raises InputError with the forms to write when it does not parse.
    """
    if "out[" in text:
        return parse_condition(text)
    name, _, value = text.strip().partition(":")
    if name in _SIDED:
        try:
            return parse_sided(_SIDED[name], value)
        except InputError:
            raise
        except ValueError:
            raise InputError(f"Property {text!r} is not understood; after {name}: write {_SIDES}.") from None
    try:
        if name == "argmax" and not value:
            return Argmax()
        if name == "not-class":
            return NotClass(int(value))
        if name == "top-k" and int(value) > 0:
            return TopK(int(value))
        if name == "band" and float(value) > 0:
            return Band(float(value))
    except ValueError:
        pass
    raise InputError(f"Property {text!r} is not understood; write {FORMS}.")
