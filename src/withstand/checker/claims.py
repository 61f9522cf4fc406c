"""Bounds of claims: combinations of rows, with the lines and multipliers that the certificate names."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from withstand.checker.bounds import Bounder, Parts
from withstand.checker.certificate import INPUT_SPLIT, NEURON_SPLIT, PARALLEL, Certificate
from withstand.checker.descent import Rows, descend
from withstand.checker.functions import Relaxation
from withstand.checker.ragged import Ragged
from withstand.checker.rounding import INFLATE, gamma, total
from withstand.checker.tree import Steps, Trees

Array = np.ndarray


class Bounded(NamedTuple):
    """Lower bounds [k] on the best row of each claim's group over its part (infinite where the part is empty), the
    linear lower bounds slope [k, n] . x + constant [k] of the claims above the threshold, and which parts are empty."""

    bound: Array
    slope: Array
    constant: Array
    empty: Array


@dataclass(frozen=True, eq=False)
class Claiming:
    """The claims of one certificate, ready to be bounded. `bounder` has seen the whole region."""

    certificate: Certificate
    trees: Trees
    bounder: Bounder

    @cached_property
    def _members(self) -> tuple[Ragged, Array]:
        """The rows of each group."""
        return Ragged.sorted(self.certificate.rows.group, self.certificate.rows.groups)

    @cached_property
    def _weights(self) -> Ragged:
        sizes = np.diff(self._members[0].start)
        return Ragged.of(sizes[self.certificate.claims.group])

    @cached_property
    def _multipliers(self) -> Ragged:
        return Ragged.of(self.certificate.claims.count)

    @cached_property
    def _row_sizes(self) -> Array:
        """How large every row, less the threshold, can be: [R]."""
        rows = self.certificate.rows
        outputs = self.bounder.sizes.magnitude[self.bounder.network.output]
        return np.abs(rows.weight) @ outputs + np.abs(rows.offset) + abs(rows.threshold)

    @cached_property
    def _neuron_sizes(self) -> Array:
        """How large every neuron can be: [neurons]."""
        sizes = self.bounder.sizes.magnitude
        return np.concatenate([*(sizes[a.source] for a in self.bounder.network.activations), np.zeros(0)])

    def bound(self, claim: Array, parts: Parts) -> Bounded:
        """Bounds of claims [k] over their parts."""
        rows, weight = self.combined(claim)
        pulls = self.pulls(claim, rows)
        network = self.bounder.network
        lines = self.lines(claim, parts)
        left = descend(network, rows, len(network.steps), lines, pulls)
        value = self.bounder.lower(rows, left, parts.low, parts.high)[:, 0]
        share = value / weight
        share = share - np.abs(share) * gamma(self._weights.total + 4)
        bound = np.nextafter(share + self.certificate.rows.threshold, -np.inf)
        constant = total(rows.constant, np.zeros_like(rows.constant), rows.slack)[:, 0]
        return Bounded(np.where(parts.empty, np.inf, bound), left[:, 0], constant, parts.empty)

    def combined(self, claim: Array) -> tuple[Rows, Array]:
        """The weighted rows less the threshold as rows over the outputs, and the sum of each claim's weights."""
        rows, sizes = self.certificate.rows, self.bounder.sizes
        lists, members = self._members
        owner, place = lists.take(self.certificate.claims.group[claim])
        row, weight = members[place], self.certificate.claims.weight[self._weights.take(claim)[1]].astype(np.float64)
        begin = np.searchsorted(owner, np.arange(len(claim)))
        coefficients = np.add.reduceat(weight[:, None] * rows.weight[row], begin)
        constant = np.add.reduceat(weight * (rows.offset[row] - rows.threshold), begin)
        slack = np.add.reduceat(weight * self._row_sizes[row], begin) * gamma(len(rows.group) + 4) * INFLATE
        whole = Rows({self.bounder.network.output: coefficients[:, None]}, constant[:, None], slack[:, None], sizes)
        return whole, np.add.reduceat(weight, begin)

    def pulls(self, claim: Array, rows: Rows) -> dict[int, Array]:
        """What the multipliers of splits add: coefficients of neurons, and to the constants of the rows."""
        certificate, network = self.certificate, self.bounder.network
        mine = (certificate.claims.count[claim] > 0).nonzero()[0]
        if not len(mine):
            return {}
        nodes = certificate.nodes
        steps = self.trees.steps(certificate.claims.node[claim[mine]], np.full(len(mine), -1))
        split = (nodes.kind[steps.node] == NEURON_SPLIT).nonzero()[0]
        split = split[np.argsort(steps.row[split], kind="stable")]
        row, node = mine[steps.row[split]], steps.node[split]
        size = certificate.claims.multipliers[self._multipliers.take(claim[mine])[1]].astype(np.float64)
        signed = np.where(steps.side[split] == 0, size, -size)
        pull = np.zeros((len(claim), network.neurons))
        np.add.at(pull, (row, nodes.place[node]), signed)
        point = nodes.point[node]
        errors = size * (self._neuron_sizes[nodes.place[node]] + np.abs(point))
        errors = np.bincount(row, errors, len(claim)) * gamma(int(certificate.claims.count.max()) + 4)
        rows.slack += errors[:, None] * INFLATE
        rows.shift(-np.bincount(row, signed * point, len(claim))[:, None])
        return {a.out: pull[:, a.neurons] for a in network.activations}

    def lines(self, claim: Array, parts: Parts) -> dict[int, Relaxation]:
        """The lines that claims [k] use over their parts."""
        row = self.certificate.claims.slopes[claim]
        slopes = self.slopes(row) if (row != -1).any() else None
        parallel = row == PARALLEL
        found: dict[int, Relaxation] = {}
        for step in self.bounder.network.activations:
            below, above = parts.below[:, step.neurons], parts.above[:, step.neurons]
            given = None if slopes is None else slopes[:, step.neurons]
            if given is not None and parallel.any():
                given[parallel] = step.function.parallel(below[parallel], above[parallel])
            found[step.out] = step.function.lines(below, above, given)
        return found

    @cached_property
    def _stored(self) -> tuple[Ragged, Ragged, Ragged]:
        """The lists of neurons, and of each row of slopes its shares and its numbers."""
        slopes, curved = self.certificate.slopes, self.bounder.network.curved
        lists = Ragged(slopes.start)
        before = np.concatenate([[0], np.cumsum(curved[slopes.neuron])])[slopes.start]
        numbers = np.diff(before)[slopes.list]
        lengths = np.diff(slopes.start)[slopes.list]
        return lists, Ragged.of(lengths - numbers), Ragged.of(numbers)

    def slopes(self, row: Array) -> Array:
        """Rows of slopes over all neurons [k, neurons], NaN where none is stored (row -1: nowhere)."""
        held, curved = self.certificate.slopes, self.bounder.network.curved
        lists, shares, numbers = self._stored
        found = np.full((len(row), len(curved)), np.nan)
        some = (row >= 0).nonzero()[0]
        owner, place = lists.take(held.list[row[some]])
        neuron = held.neuron[place]
        bent = curved[neuron]
        found[some[owner[~bent]], neuron[~bent]] = held.shares[shares.take(row[some])[1]] / 255
        found[some[owner[bent]], neuron[bent]] = held.numbers[numbers.take(row[some])[1]]
        return found


def narrowed(certificate: Certificate, parts: Parts, steps: Steps) -> Parts:
    """Parts cut by splits on the way down; `steps.row` says which part each is about."""
    if not len(steps.row):
        return parts
    nodes, node = certificate.nodes, steps.node
    edges = {name: getattr(parts, name).copy() for name in ("low", "high", "below", "above")}
    for kind, floor, ceiling in ((INPUT_SPLIT, "low", "high"), (NEURON_SPLIT, "below", "above")):
        mine = nodes.kind[node] == kind
        left, right = (mine & (steps.side == side) for side in (0, 1))
        np.minimum.at(edges[ceiling], (steps.row[left], nodes.place[node[left]]), nodes.point[node[left]])
        np.maximum.at(edges[floor], (steps.row[right], nodes.place[node[right]]), nodes.point[node[right]])
    crossed = (edges["low"] > edges["high"]).any(1) | (edges["below"] > edges["above"]).any(1)
    np.maximum(edges["low"], edges["high"], out=edges["high"])
    np.maximum(edges["below"], edges["above"], out=edges["above"])
    return replace(parts, **edges, empty=parts.empty | crossed)
