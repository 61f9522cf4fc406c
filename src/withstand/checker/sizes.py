"""How large the values of a network can be over a region, and what errors that allows."""

import numpy as np

from withstand.checker.maps import Identity, Take
from withstand.checker.network import Activation, Affine, Network
from withstand.checker.rounding import INFLATE, LARGE, TINY, UNIT, gamma, middle

Array = np.ndarray

Interval = tuple[Array, Array]


class Sizes:
    """Magnitudes of all values, and the vectors by which rounding errors are bounded (see `rounding`).

    It grows as the steps are walked over the whole region: `affine` before the bounds of an affine step are computed,
    `seen` once the bounds of a value are known.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.magnitude: dict[int, Array] = {}
        self.backward: dict[int, Array] = {}
        self.forward: dict[int, Array] = {}
        self._made = {step.out: step for step in network.activations}
        self._direct = {step.source for step in network.activations if step.source in network.images}

    def seen(self, value: int, low: Array, high: Array) -> None:
        """Keep the magnitude of a value whose bounds over the whole region are low, high [n]."""
        found = np.maximum(np.abs(low), np.abs(high)) * INFLATE + TINY
        held = self.magnitude.get(value)
        found = found if held is None else np.minimum(found, held)
        self.magnitude[value] = np.where(found <= LARGE, found, np.inf)
        if value in self._direct:
            self.backward[value] = 2 * UNIT * INFLATE * self.magnitude[value]
        made = self._made.get(value)
        if made is not None and self.network.machine.rounds(made.function):
            error = self.network.machine.values(made.function, self.magnitude[value]) * INFLATE
            self.backward[value] = self.backward.get(value, 0.0) + error

    def affine(self, step: Affine) -> None:
        """Prepare the vectors of an affine step from the magnitudes of its sources."""
        size = self.network.sizes[step.out]
        bias = np.zeros(size) if step.bias is None else np.abs(step.bias)
        whole, back = bias.copy(), gamma(size + 2) * bias
        most = 0
        for source, map in zip(step.sources, step.absolute, strict=True):
            part = map.forward(self.magnitude[source][None])[0]
            whole += part
            back += gamma(map.roundings_backward) * part
            most = max(most, map.roundings_forward)
        machine = self.network.machine.sums(most + len(step.sources), whole)
        if _exact(step):
            machine = np.zeros(1)
        self.magnitude[step.out] = (whole + machine) * INFLATE + TINY
        self.backward[step.out] = (back + 2 * UNIT * whole + machine) * INFLATE + TINY
        self.forward[step.out] = (gamma(most + len(step.sources) + 4) * whole + machine) * INFLATE + TINY

    def image(self, step: Activation, low: Array, high: Array) -> Interval:
        """Bounds of an activation's value over boxes [K, n] of its source, as a machine computes it."""
        below, above = step.function.image(low, high)
        error = self.network.machine.values(step.function, np.maximum(np.abs(below), np.abs(above)))
        return below - error, above + error

    def interval(self, step: Affine, values: dict[int, Interval]) -> Interval:
        """Bounds of an affine step over boxes [K, n] of its sources."""
        low = high = radius = np.zeros(1)
        for source, map, absolute in zip(step.sources, step.maps, step.absolute, strict=True):
            most = self.magnitude[source]
            below, above = np.maximum(values[source][0], -most), np.minimum(values[source][1], most)
            if isinstance(map, Identity | Take):
                low, high = low + map.forward(below), high + map.forward(above)
                continue
            centre, spread = middle(below, above)
            centre = map.forward(centre)
            low, high = low + centre, high + centre
            radius = radius + absolute.forward(spread) * (1 + 2 * gamma(map.roundings_forward + 4))
        bias = 0.0 if step.bias is None else step.bias
        radius = radius + self.forward[step.out]
        if _exact(step):
            return low, high
        return low + bias - radius, high + bias + radius


def _exact(step: Affine) -> bool:
    """Whether a step only moves numbers."""
    return step.bias is None and len(step.maps) == 1 and isinstance(step.maps[0], Identity | Take)
