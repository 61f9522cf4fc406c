"""Linear lower bounds carried back from a value to the input, with the slack of every rounding on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from withstand.checker.functions import Relaxation
from withstand.checker.network import Activation, Affine, Network
from withstand.checker.rounding import UNIT
from withstand.checker.sizes import Sizes

Array = np.ndarray


@dataclass
class Rows:
    """Lower bounds sum of coefficients . value + constant - slack of K times R quantities, over K parts of a region.

    coefficients: [K, R, size] by value. constant, slack: [K, R].
    """

    coefficients: dict[int, Array]
    constant: Array
    slack: Array
    sizes: Sizes = field(repr=False)

    def mirrored(self) -> "Rows":
        """The rows, then bounds of the negatives; right only while all steps so far were affine."""
        both = {value: np.concatenate([a, -a], 1) for value, a in self.coefficients.items()}
        constant, slack = np.concatenate([self.constant, -self.constant], 1), np.concatenate([self.slack] * 2, 1)
        return Rows(both, constant, slack, self.sizes)

    def add(self, value: int, coefficients: Array) -> None:
        """Add coefficients of a value to those it has."""
        held = self.coefficients.get(value)
        if held is None:
            self.coefficients[value] = coefficients
            return
        found = held + coefficients
        size = np.abs(held) + np.abs(coefficients) + np.abs(found)
        self.slack += UNIT * (size @ self.sizes.magnitude[value])
        self.coefficients[value] = found

    def shift(self, by: Array) -> None:
        """Add to the constants."""
        self.constant = self.constant + by
        self.slack += UNIT * np.abs(self.constant)

    def through_affine(self, step: Affine, rows: Array) -> None:
        """Replace coefficients of an affine step's value by those of its sources."""
        if step.bias is not None:
            self.shift(rows @ step.bias)
        flat = rows.reshape(-1, rows.shape[2])
        for source, map in zip(step.sources, step.maps, strict=True):
            self.add(source, map.backward(flat).reshape(*rows.shape[:2], -1))

    def through_activation(self, step: Activation, rows: Array, lines: Relaxation) -> None:
        """Replace coefficients of an activation's value by those of its source."""
        coefficients, constant, slack = lines.back(rows, self.sizes.magnitude[step.source])
        self.shift(constant)
        self.slack += slack
        self.add(step.source, coefficients)


def descend(
    network: Network, rows: Rows, start: int, lines: Mapping[int, Relaxation], pulls: Mapping[int, Array] | None = None
) -> Array:
    """Carry rows back through the steps before number `start`, to coefficients [K, R, n] of the input.

    lines: of each activation met, by its value's number. pulls: coefficients [K, size] to add to the source
    of an activation on the way (multipliers of splits).
    """
    errors = rows.sizes.backward
    for step in reversed(network.steps[:start]):
        arrived = rows.coefficients.pop(step.out, None)
        if arrived is not None:
            if step.out in errors:
                rows.slack += np.abs(arrived) @ errors[step.out]
            if isinstance(step, Affine):
                rows.through_affine(step, arrived)
            else:
                rows.through_activation(step, arrived, lines[step.out])
        if isinstance(step, Activation) and pulls and step.out in pulls:
            pull = pulls[step.out]
            rows.add(step.source, np.broadcast_to(pull[:, None], (*rows.constant.shape, pull.shape[1])))
    left = rows.coefficients.get(0)
    if left is None:
        return np.zeros((*rows.constant.shape, network.inputs))
    rows.slack += 2 * UNIT * (np.abs(left) @ rows.sizes.magnitude[0])
    return left
