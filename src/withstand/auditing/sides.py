"""What the outputs of a two-sided property are, logits or probabilities: as the user says, else by looking."""

from dataclasses import replace

import torch
from torch import Tensor

from withstand.core.property import Property
from withstand.core.records import Check
from withstand.core.shapes import flattened
from withstand.core.sides import Reading, Sided
from withstand.graph.model import Model
from withstand.graph.unit_range import unit_end
from withstand.io.properties import Imported

NAME = "outputs"
"""The finding's name."""

LOOKED_AT = 256
"""Samples that are looked at, at most."""


def settle(property: Property, model: Model, x: Tensor, y: Tensor) -> tuple[Property, Check | None]:
    """A property that knows what the outputs are, and the finding that says which was taken and why. Others than those
    with a threshold stay as they are.

    x [N, *shape], y: targets as the property reads them. Outputs that the network's last operation keeps within [0, 1]
    are probabilities, outputs beyond it logits. Where outputs lie within it by no operation that is known, what fits
    the targets better counts, probabilities on a tie.
    """
    if isinstance(property, Imported) and isinstance(property.inner, Sided):
        property = property.inner
    if not isinstance(property, Sided):
        return property, None
    x, y = x[:LOOKED_AT], y[:LOOKED_AT]
    with torch.no_grad():
        outputs = flattened(model(x))
    low, high = float(outputs.min()), float(outputs.max())
    right = {name: _right(replace(property, outputs=name), outputs, y) for name in _readings(property)}
    figures = {"low": low, "high": high} | {f"right as {name}": share for name, share in right.items()}
    seen = f"they range from {low:.4g} to {high:.4g}"
    end = None if model.graph is None else unit_end(model.graph)
    within = low >= 0 and high <= 1
    best: Reading = "probabilities" if within and right.get("probabilities", -1.0) >= right["logits"] else "logits"
    taken: Reading = property.outputs or ("probabilities" if end else best)
    settled = replace(property, outputs=taken)
    told = f"The outputs are read as {taken} with the threshold {settled.edge:g}"
    if property.outputs is not None:
        return settled, _as_said(settled, told, end, within, seen, figures)
    if end or not within:
        why = f"the network ends in {end}" if end else f"{seen}, beyond [0, 1]"
        return settled, Check(name=NAME, outcome="pass", sentence=f"{told}, because {why}.", figures=figures)
    sentence = (
        f"{told}: {seen} on the data, by no last operation that says so, and this fits the targets best; "
        f"say what they are, as in {replace(settled, outputs=taken)}."
    )
    return settled, Check(name=NAME, outcome="warn", sentence=sentence, figures=figures)


def _readings(property: Sided) -> tuple[Reading, ...]:
    """What the outputs could be: with a threshold that is no probability, only logits."""
    able = property.threshold is None or 0 < property.threshold < 1
    return ("logits", "probabilities") if able else ("logits",)


def _right(property: Sided, outputs: Tensor, y: Tensor) -> float:
    """The share of all outputs that are on the side of their label."""
    return float((property.targets(outputs, y) > 0).double().mean())


def _as_said(settled: Sided, told: str, end: str | None, within: bool, seen: str, figures: dict[str, float]) -> Check:
    """The finding where the user has said what the outputs are."""
    if settled.outputs == "probabilities" and not within:
        sentence = f"{told}, as you say, but {seen}, which no probabilities do; say outputs=logits if they are logits."
        return Check(name=NAME, outcome="warn", sentence=sentence, figures=figures)
    if settled.outputs == "logits" and end is not None and settled.threshold is None:
        sentence = f"{told}, as you say, but the network ends in {end}: every output is above it; say probabilities."
        return Check(name=NAME, outcome="warn", sentence=sentence, figures=figures)
    return Check(name=NAME, outcome="pass", sentence=f"{told}, as you say.", figures=figures)
