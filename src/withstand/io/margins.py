"""Margins of properties from one sample's outputs in numpy: what replay needs to know of them, without torch."""

import numpy as np

from withstand.core.errors import InputError

SIDED = ("binary", "multi-label")
"""Properties whose outputs keep their sides of a threshold."""


def margin(property: str, outputs: np.ndarray, y: np.ndarray) -> float:
    """The margin of a property, by its text, at flat outputs [O] with target y. Conditions on outputs and the
    user's own properties need torch.

    Raises InputError when the property is not known or does not fit the outputs.
    """
    if "out[" in property:
        return _in_torch(property, outputs, y)
    name, _, value = property.partition(":")
    if name == "band":
        return float(value) - float(np.abs(outputs - y.reshape(-1)).max())
    if name == "argmax":
        return _gap(outputs, y, 1)
    if name == "top-k" and 0 < int(value) < outputs.size:
        return _gap(outputs, y, int(value))
    if name == "not-class":
        return float(np.delete(outputs, int(value)).max() - outputs[int(value)])
    if name in SIDED and y.size == outputs.size:
        return float(((2 * y.ravel() - 1) * (outputs - _edge(property))).min())
    if "." in name or "?" in value or value.isidentifier():
        return _in_torch(property, outputs, y)
    raise InputError(
        f"The witness names the property {property!r}, which cannot be replayed on {outputs.size} outputs."
    )


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
    told = dict(part.partition("=")[::2] for part in property.partition(":")[2].split(",") if part)
    usual = 0.5 if told.get("outputs") == "probabilities" else 0.0
    return float(told.get("threshold", usual))


def _gap(outputs: np.ndarray, y: np.ndarray, k: int) -> float:
    """How far the label is above the k-th largest of the others."""
    own = int(y.ravel()[0])
    if not 0 <= own < outputs.size:
        raise InputError(f"The witness has label {own}, the model {outputs.size} outputs; give its own model.")
    return float(outputs[own] - np.sort(np.delete(outputs, own))[-k])


def _in_torch(property: str, outputs: np.ndarray, y: np.ndarray) -> float:
    import torch

    from withstand.io.properties import load_property

    held = load_property(property)
    return float(held.margin(torch.from_numpy(outputs)[None], torch.from_numpy(np.asarray(y))[None])[0])
