"""Margins of properties from one sample's outputs in numpy: what replay needs to know of them, without torch."""

from typing import TYPE_CHECKING

import numpy as np

from withstand.core.errors import InputError
from withstand.io.written import Written

if TYPE_CHECKING:
    from withstand.core.property import Property

_UNFIT = "{} names the property {!r}, which cannot be replayed on {} outputs; give a witness of this model."

SIDED = ("binary", "multi-label")
"""Properties whose outputs keep their sides of a threshold."""


def is_plain(property: Written) -> bool:
    """Whether the margin of a property is known here, without torch."""
    name = property.text.partition(":")[0]
    return name in ("band", "argmax", "top-k", "not-class", *SIDED) and "out[" not in property.text


def margin(property: Written, outputs: np.ndarray, y: np.ndarray) -> float:
    """The margin of a property, by its text, at flat outputs [O] with target y. Conditions on outputs and the
    user's own properties need torch.

    Raises InputError when the property is not known or does not fit the outputs, or is code of a file not trusted.
    """
    try:
        return _margin(property, outputs, y)
    except InputError:
        raise
    except (ValueError, IndexError, RuntimeError):
        raise InputError(_UNFIT.format(property.where, property.text, outputs.size)) from None


def _margin(property: Written, outputs: np.ndarray, y: np.ndarray) -> float:
    if not is_plain(property):
        return _in_torch(property, outputs, y)
    name, _, value = property.text.partition(":")
    if name == "band":
        return float(value) - float(np.abs(outputs - y.reshape(-1)).max())
    if name == "argmax":
        return _gap(outputs, y, 1)
    if name == "top-k" and 0 < int(value) < outputs.size:
        return _gap(outputs, y, int(value))
    if name == "not-class":
        return float(np.delete(outputs, int(value)).max() - outputs[int(value)])
    if name in SIDED and y.size == outputs.size:
        return float(((2 * y.ravel() - 1) * (outputs - _edge(property.text))).min())
    raise InputError(_UNFIT.format(property.where, property.text, outputs.size))


def answer(property: str, outputs: np.ndarray) -> float:
    """The number by which a person names flat outputs: the class, the first output, or how many labels there are."""
    if property.startswith("band:"):
        return float(outputs[0])
    return float((outputs > _edge(property)).sum() if _is_sided(property) else outputs.argmax())


def label(property: str, y: np.ndarray) -> float:
    """The number by which a person names a target."""
    return float(y.sum() if _is_sided(property) else y.ravel()[0])


def _is_sided(property: str) -> bool:
    return property.partition(":")[0] in SIDED


def _edge(property: str) -> float:
    """The threshold of `binary` or `multi-label`, by its text."""
    parts = (part.partition("=") for part in property.partition(":")[2].split(",") if part)
    told = {name: value for name, _, value in parts}
    usual = 0.5 if told.get("outputs") == "probabilities" else 0.0
    return float(told.get("threshold", usual))


def _gap(outputs: np.ndarray, y: np.ndarray, k: int) -> float:
    """How far the label is above the k-th largest of the others."""
    own = int(y.ravel()[0])
    if not 0 <= own < outputs.size:
        raise InputError(f"The witness has label {own}, the model {outputs.size} outputs; give its own model.")
    return float(outputs[own] - np.sort(np.delete(outputs, own))[-k])


def load(property: Written) -> "Property":
    """The property itself, with torch. Raises InputError when it cannot be had, or is code of a file not trusted."""
    from withstand.io.properties import load_property

    return load_property(property)


def _in_torch(property: Written, outputs: np.ndarray, y: np.ndarray) -> float:
    import torch

    return float(load(property).margin(torch.from_numpy(outputs)[None], torch.from_numpy(np.asarray(y))[None])[0])
