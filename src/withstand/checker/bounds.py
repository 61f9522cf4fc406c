"""Bounds of neurons over parts of a region, layer by layer: by intervals, and by linear bounds where those may help."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from withstand.checker.descent import Rows, descend
from withstand.checker.functions import Relaxation
from withstand.checker.network import Activation, Affine, Network
from withstand.checker.region import Region
from withstand.checker.rounding import total
from withstand.checker.sizes import Interval, Sizes
from withstand.checker.units import units
from withstand.checker.windows import reads_windows, windowed

Array = np.ndarray

ENTRIES = 2**16
"""Coefficients of one value that are worked on at once: 2 MB."""


@dataclass(frozen=True)
class Parts:
    """K parts of a region: their boxes low, high [K, inputs], bounds below, above [K, neurons] on the neurons there,
    and which of them are surely empty [K]."""

    low: Array
    high: Array
    below: Array
    above: Array
    empty: Array

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: Array) -> "Parts":
        return Parts(self.low[index], self.high[index], self.below[index], self.above[index], self.empty[index])


class Targets(NamedTuple):
    """Neurons whose bounds use stored slopes: the part [T], the neuron [T], whether it is the upper bound [T], and the
    number of its slopes [T], which `slopes` turns into numbers [T, neurons], NaN where none is stored."""

    part: Array
    neuron: Array
    upper: Array
    row: Array
    slopes: Callable[[Array], Array]

    def of(self, index: Array) -> "Targets":
        """Some of them."""
        return Targets(self.part[index], self.neuron[index], self.upper[index], self.row[index], self.slopes)


@dataclass
class Bounder:
    """Bounds over parts of one region, for one network. The first call of `refine` must be about the whole region.

    pulse: is called before every piece of work, and may raise an exception to end it.
    """

    network: Network
    region: Region
    pulse: Callable[[], None] = lambda: None
    sizes: Sizes = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = Sizes(self.network)
        self.sizes.seen(0, self.region.low, self.region.high)

    def whole(self) -> Parts:
        """The whole region as one part, nothing known of its neurons."""
        unknown = np.full((1, self.network.neurons), np.inf)
        return Parts(self.region.low[None], self.region.high[None], -unknown, unknown, np.zeros(1, bool))

    def refine(
        self, parts: Parts, targets: Targets | None = None, twice: bool = False, stale: Array | None = None
    ) -> Parts:
        """The parts with bounds of all neurons computed afresh and intersected with those they have.

        twice: neurons left undecided are bounded once more, over parallel lines. stale [K]: the activation up to whose
        neurons nothing has changed since bounds were last computed (-1: the input has), so that rows can only help
        behind it.
        """
        crossed = (parts.low > parts.high).any(1)
        high = np.maximum(parts.low, parts.high)
        values: dict[int, Interval] = {0: (parts.low, high)}
        walk = _Walk(self, Parts(parts.low, high, parts.below.copy(), parts.above.copy(), parts.empty | crossed), twice)
        learning, layer = len(self.sizes.magnitude) == 1, 0
        for step in self.network.steps:
            if isinstance(step, Affine):
                if learning:
                    self.sizes.affine(step)
                values[step.out] = self.sizes.interval(step, values)
            else:
                behind = np.ones(len(parts), bool) if stale is None else stale < layer
                values[step.source] = walk.bound(step, values[step.source], targets, behind)
                values[step.out] = self.sizes.image(step, *values[step.source])
                layer += 1
            if learning:
                for value in {step.out} if isinstance(step, Affine) else {step.source, step.out}:
                    self.sizes.seen(value, *(edge[0] for edge in values[value]))
        return walk.parts

    def lower(self, rows: Rows, left: Array, low: Array, high: Array) -> Array:
        """The rows' least values over the boxes, from the coefficients that are left at the input."""
        self.pulse()
        least, slack = self.region.least(left, low, high)
        return total(rows.constant, least, rows.slack + slack)


@dataclass
class _Walk:
    """One pass over all layers for some parts; `lines` are those of the layers done with, `parallel` other ones."""

    bounder: Bounder
    parts: Parts
    twice: bool
    lines: dict[int, Relaxation] = field(default_factory=dict)
    parallel: dict[int, Relaxation] = field(default_factory=dict)

    def bound(self, step: Activation, interval: Interval, targets: Targets | None, behind: Array) -> Interval:
        """Bounds of the neurons before an activation, and with them its lines. behind [K]: where rows may help."""
        below, above = self.parts.below[:, step.neurons], self.parts.above[:, step.neurons]
        np.maximum(below, interval[0], out=below)
        np.minimum(above, interval[1], out=above)
        self._settle(below, above)
        exact = step.source in self.bounder.network.unmixed and self.bounder.region.norm == "box"
        if not exact and step.source not in self.bounder.network.images:
            self._tighten(step, targets, behind, self.lines)
            self._settle(below, above)
            if self.twice and self.parallel:
                self._tighten(step, None, behind, self.parallel)
                self._settle(below, above)
        self.lines[step.out] = step.function.lines(below, above, None)
        if self.twice:
            self.parallel[step.out] = step.function.lines(below, above, step.function.parallel(below, above))
        return below, above

    def _settle(self, below: Array, above: Array) -> None:
        """Mark the parts in which bounds cross, which are empty, and uncross them."""
        self.parts.empty[:] |= (below > above).any(1)
        np.maximum(above, below, out=above)

    def _tighten(self, step: Activation, targets: Targets | None, behind: Array, lines: dict[int, Relaxation]) -> None:
        below, above = self.parts.below[:, step.neurons], self.parts.above[:, step.neurons]
        wanted = step.function.undecided(below, above) & (behind & ~self.parts.empty)[:, None]
        mine = self._targeted(step, targets, wanted)
        network = self.bounder.network
        width = network.inputs // 4 if reads_windows(network, step.source) else max(network.sizes)
        for part, index in _batches(wanted, ENTRIES // max(1, width) // 2):
            found = self._both(step, part, index, lines)
            place = (part[:, None], index)
            below[place] = np.maximum(below[place], found[:, : index.shape[1]])
            above[place] = np.minimum(above[place], -found[:, index.shape[1] :])
        for some in _pieces(mine, ENTRIES // self.bounder.network.neurons):
            assert targets is not None
            self._stored(step, targets.of(some))

    def _targeted(self, step: Activation, targets: Targets | None, wanted: Array) -> Array:
        """Which targets are about wanted neurons of the activation; where both bounds of one are, it is wanted no
        more."""
        if targets is None:
            return np.zeros(0, np.int64)
        start = step.neurons.start
        mine = ((targets.neuron >= start) & (targets.neuron < step.neurons.stop)).nonzero()[0]
        mine = mine[wanted[targets.part[mine], targets.neuron[mine] - start]]
        sides = np.zeros((2, *wanted.shape), bool)
        sides[targets.upper[mine].astype(int), targets.part[mine], targets.neuron[mine] - start] = True
        wanted &= ~sides.all(0)
        return mine

    def _both(self, step: Activation, part: Array, index: Array, over: dict[int, Relaxation]) -> Array:
        """Lower bounds of neurons index [k, R] of the parts [k], then of their negatives: [k, 2R]."""
        bounder = self.bounder
        begun = windowed(bounder.network, bounder.sizes, step, part.repeat(index.shape[1]), index.ravel(), over)
        if begun is None:
            rows, start = units(bounder.network, bounder.sizes, step, index)
        else:
            rows, start = begun
            part = part[:1] if len(self.parts) == 1 else part.repeat(index.shape[1])
        lines = {out: line.of(part) for out, line in over.items()} if start else {}
        left = descend(bounder.network, rows, start, lines)
        found = bounder.lower(rows, left, self.parts.low[part], self.parts.high[part])
        return found if begun is None else found.reshape(*index.shape, 2).swapaxes(1, 2).reshape(len(index), -1)

    def _stored(self, step: Activation, targets: Targets) -> None:
        """Bounds by stored slopes, one row a target."""
        bounder, part = self.bounder, targets.part
        index = targets.neuron - step.neurons.start
        rows, start = units(bounder.network, bounder.sizes, step, index[:, None])
        lines, slopes = {}, targets.slopes(targets.row)
        for earlier in bounder.network.activations:
            if earlier.out in self.lines:
                below, above = (edge[part, earlier.neurons] for edge in (self.parts.below, self.parts.above))
                lines[earlier.out] = earlier.function.lines(below, above, slopes[:, earlier.neurons])
        side = targets.upper.astype(int)[:, None, None]
        chosen = {v: np.take_along_axis(a, side, 1) for v, a in rows.coefficients.items()}
        constant, slack = (np.take_along_axis(a, side[:, 0], 1) for a in (rows.constant, rows.slack))
        one = Rows(chosen, constant, slack, bounder.sizes)
        left = descend(bounder.network, one, start, lines)
        found = bounder.lower(one, left, self.parts.low[part], self.parts.high[part])[:, 0]
        below, above = self.parts.below[:, step.neurons], self.parts.above[:, step.neurons]
        up = targets.upper
        np.maximum.at(below, (part[~up], index[~up]), found[~up])
        np.minimum.at(above, (part[up], index[up]), -found[up])


def _batches(wanted: Array, limit: int) -> Iterator[tuple[Array, Array]]:
    """Parts [k] and neurons [k, R] that cover the wanted ones [K, N], k R <= limit where one part is not more already.

    Parts with like counts go together; one with fewer wanted neurons than its batch repeats its first.
    """
    counts = wanted.sum(1)
    order = np.argsort(-counts, kind="stable")
    first, sizes, limit = 0, counts[order], max(1, limit)
    while first < len(order) and sizes[first] > 0:
        most = int(sizes[first])
        last = min(len(order), first + max(1, limit // most))
        part = order[first:last]
        index = np.argsort(~wanted[part], axis=1, kind="stable")[:, :most]
        index = np.where(np.take_along_axis(wanted[part], index, 1), index, index[:, :1])
        for start in range(0, most, limit):
            yield part, index[:, start : start + limit]
        first = last


def _pieces(index: Array, size: int) -> Sequence[Array]:
    size = max(1, size)
    return [index[start : start + size] for start in range(0, len(index), size)]
