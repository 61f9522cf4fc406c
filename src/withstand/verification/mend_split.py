"""Where to split a part of a region whose claim fails."""

from typing import NamedTuple

import numpy as np

from withstand.checker.bounds import Parts
from withstand.checker.claims import Claiming
from withstand.checker.functions import Lines
from withstand.checker.network import Affine
from withstand.verification.portfolio import FEW_INPUTS

Array = np.ndarray


class Split(NamedTuple):
    """At an input, or else at a neuron: its number (-1: no split helps), and the point. coefficient: the size of that
    of the neuron's activation in the bound."""

    input: bool
    place: int
    point: float
    coefficient: float = 0.0


def splits(claiming: Claiming, claim: Array, parts: Parts, slope: Array) -> list[Split]:
    """For each claim [k] the split of its part that looks most useful.

    slope [k, n]: the claims' linear bounds. Where there are few inputs, it is the one over whose width the bound falls
    most, at its middle; else the neuron whose lines lie furthest apart at the point, times its coefficient.
    """
    few = slope.shape[1] <= FEW_INPUTS
    score, point, size = _by_input(parts, slope) if few else _by_neuron(claiming, claim, parts)
    place = score.argmax(1)
    row = np.arange(len(claim))
    helps = score[row, place] > 0
    chosen = (place.tolist(), point[row, place].tolist(), size[row, place].tolist(), helps.tolist())
    return [Split(few, where if useful else -1, at, big) for where, at, big, useful in zip(*chosen, strict=True)]


def _by_input(parts: Parts, slope: Array) -> tuple[Array, Array, Array]:
    middle = (parts.low + parts.high) / 2
    size = np.abs(slope)
    size = size + 1e-3 * size.max(1, keepdims=True) + 1e-30
    splittable = (parts.low < middle) & (middle < parts.high)
    return np.where(splittable, size * (parts.high - parts.low), 0.0), middle, size


def _by_neuron(claiming: Claiming, claim: Array, parts: Parts) -> tuple[Array, Array, Array]:
    network = claiming.bounder.network
    rows, _ = claiming.combined(claim)
    pulls, lines = claiming.pulls(claim, rows), claiming.lines(claim, parts)
    score, size = np.zeros((2, len(claim), network.neurons))
    middle = (parts.below + parts.above) / 2
    point = np.where(network.curved, middle, 0.0)
    point = np.where((parts.below < point) & (point < parts.above), point, middle)
    for step in reversed(network.steps):
        arrived = rows.coefficients.pop(step.out, None)
        if arrived is not None and isinstance(step, Affine):
            rows.through_affine(step, arrived)
        elif arrived is not None and not isinstance(step, Affine):
            mine = lines[step.out]
            if isinstance(mine, Lines):
                at = point[:, step.neurons]
                upper = mine.upper_slope * at + (0.0 if mine.upper_offset is None else mine.upper_offset)
                lower = mine.lower_slope * at + (0.0 if mine.lower_offset is None else mine.lower_offset)
                size[:, step.neurons] = np.abs(arrived[:, 0])
                score[:, step.neurons] = size[:, step.neurons] * (upper - lower)
            rows.through_activation(step, arrived, mine)
        if not isinstance(step, Affine) and step.out in pulls:
            rows.add(step.source, pulls[step.out][:, None])
    inside = (parts.below < point) & (point < parts.above)
    return np.where(inside, score.clip(min=0), 0.0), point, size
