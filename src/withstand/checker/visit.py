"""The walk over a certificate's trees, in which every bound is computed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from withstand.checker.bounds import ENTRIES, Bounder, Parts, Targets
from withstand.checker.certificate import CUT, NEURON_SPLIT, TWICE, Certificate
from withstand.checker.claims import Bounded, Claiming, narrowed
from withstand.checker.cut import cut
from withstand.checker.network import Network
from withstand.checker.ragged import Ragged
from withstand.checker.tree import Trees

Array = np.ndarray

TOGETHER = 256
"""Gates that are worked on at once, where the network is small."""

HELD = 2**30
"""Bytes that parts may take while they wait; beyond, the walk goes depth first."""

FREED = 31 * 2**20
"""A C library that sees so many bytes freed keeps smaller arrays' memory from then on: all runs twice as fast."""


class Cuts(NamedTuple):
    """What cuts prove: what the cut at `node` [P] takes away, or all of its part where `gone` [P], for `group` [P]."""

    node: Array
    group: Array
    gone: Array


@dataclass
class Visit:
    """One walk. wanted: the claims to bound (all unless given), besides those of the cuts above them. bound [C]: of
    every claim, minus infinity where it was not wanted. whole: the whole region as a part. empty: nodes whose parts are
    empty. watch: is told of the walk, claims, their parts and what was found, but for those of cuts. pulse: is called
    often, and may raise an exception to end the walk. known: a walk over an earlier state of the certificate, whose
    bounds over the whole region are taken over.
    """

    certificate: Certificate
    network: Network
    trees: Trees
    wanted: Array | None = None
    watch: Callable[["Visit", Array, Parts, Bounded], None] = lambda *found: None
    pulse: Callable[[], None] = lambda: None
    known: "Visit | None" = None
    bound: Array = field(init=False)
    whole: Parts = field(init=False)

    def __post_init__(self) -> None:
        self.bound = np.full(len(self.certificate.claims), -np.inf)
        fresh = Bounder(self.network, self.certificate.region, self.pulse)
        self.bounder = fresh if self.known is None else self.known.bounder
        self.claiming = Claiming(self.certificate, self.trees, self.bounder)
        self._cuts: list[Cuts] = []
        self._empty: list[Array] = []
        self._held: dict[int, Parts] = {}
        self._waiting: dict[int, int] = {}
        count = len(self.certificate.nodes)
        claims, visited = self._asked()
        gates = visited.nonzero()[0]
        above = self.trees.above(gates)
        self._children, order = Ragged.sorted(np.maximum(above, 0)[above >= 0], count)
        self._below = gates[above >= 0][order]
        self._roots = self.certificate.root[visited[self.certificate.root]].astype(np.int64)
        self._claims, order = Ragged.sorted(self.trees.gate[self.certificate.claims.node[claims]], count)
        self._claim = claims[order]
        self._targets, self._target = Ragged.sorted(self.certificate.targets.node, count)
        self._aimed, self._stale = np.zeros(count, np.int64), np.full(count, len(self.network.activations))

    @property
    def cuts(self) -> Cuts:
        """All that cuts prove."""
        none = Cuts(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
        return Cuts(*(np.concatenate(column) for column in zip(none, *self._cuts, strict=True)))

    @property
    def empty(self) -> Array:
        """Nodes whose parts were found empty."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._empty]))

    def run(self) -> None:
        """Walk all trees."""
        np.empty(FREED, np.uint8)
        first = self.certificate.root[:1].astype(np.int64)
        if self.known is None:
            twice = bool((self.certificate.nodes.anchor[first] == TWICE).any())
            self.whole = self.bounder.refine(self.bounder.whole(), self._targets_of(first), twice)
        else:
            self.whole = self.known.whole
        stack = self._roots.tolist()
        while stack:
            together = self._together()
            gates = np.array(stack[-together:])
            del stack[-together:]
            self._work(gates, first)
            stack += self._below[self._children.take(gates)[1]].tolist()

    def _asked(self) -> tuple[Array, Array]:
        """The claims to bound, and which nodes are gates on the way to them."""
        node = self.certificate.claims.node
        if self.wanted is None:
            return np.arange(len(node)), self.trees.gate == np.arange(len(self.trees.gate))
        visited = np.zeros(len(self.trees.gate), bool)
        gates = np.unique(self.trees.gate[node[self.wanted]])
        while len(gates):
            visited[gates] = True
            above = np.unique(self.trees.above(gates))
            gates = above[(above >= 0) & ~visited[above]]
        asked = np.zeros(len(node), bool)
        asked[self.wanted] = True
        asked |= visited[node] & (self.certificate.nodes.kind[node] == CUT)
        return asked.nonzero()[0], visited

    def _together(self) -> int:
        size = self.network.neurons + self.network.inputs
        if 16 * size * sum(map(len, self._held.values())) > HELD:
            return 1
        return max(1, min(TOGETHER, 4 * ENTRIES // size))

    def _work(self, gates: Array, known: Array) -> None:
        """Bound the parts of gates, then the claims there and below, down to the next gates."""
        parts = self._parts(gates)
        nodes = self.certificate.nodes
        afresh = ((nodes.anchor[gates] > 0) | (self.trees.parent[gates] < 0)) & ~np.isin(gates, known)
        aimed = self._targets.start[gates + 1] > self._targets.start[gates]
        bare = (self.trees.parent[gates] < 0) & ~aimed
        twice = nodes.anchor[gates] == TWICE
        stale = self._age(gates, aimed | twice, aimed, int(known[0]))
        for again in (False, True):
            fresh = (afresh & ~bare & (twice == again)).nonzero()[0]
            if len(fresh):
                targets = self._targets_of(self._aimed[gates[fresh]])
                _put(parts, fresh, self.bounder.refine(parts[fresh], targets, again, stale[fresh]))
        old = ~afresh & (self.trees.parent[gates] >= 0)
        self._stale[gates[old]] = stale[old]
        row, place = self._claims.take(gates)
        claim = self._claim[place]
        here = nodes.kind[self.certificate.claims.node[claim]] == CUT
        here &= self.certificate.claims.node[claim] == gates[row]
        self._empty.append(gates[parts.empty])
        self._cut(gates, parts, row[here], claim[here])
        for some in self._pieces((~here).nonzero()[0]):
            self._bound(gates, parts, row[some], claim[some])
        for k in (self._children.start[gates + 1] > self._children.start[gates]).nonzero()[0]:
            self._held[int(gates[k])] = parts[np.array([k])]

    def _age(self, gates: Array, anew: Array, aimed: Array, root: int) -> Array:
        """The first layer of neurons, -1 for the input, that splits have changed since the neurons behind it were last
        bounded: for each gate. anew: where other lines than above are used. Also finds the targets in force there."""
        above = self.trees.above(gates)
        inner = above >= 0
        self._aimed[gates] = np.where(aimed, gates, np.where(inner, self._aimed[above], root))
        stale = np.where(inner, self._stale[above], len(self.network.activations))
        stale[anew | inner & (self.certificate.nodes.kind[above] == CUT)] = -1
        steps = self.trees.steps(gates[inner], above[inner])
        nodes, mine = self.certificate.nodes, inner.nonzero()[0]
        bent = nodes.kind[steps.node] == NEURON_SPLIT
        layer = np.full(len(steps.node), -1)
        layer[bent] = self.network.layer_of[nodes.place[steps.node[bent]]]
        np.minimum.at(stale, mine[steps.row], layer)
        return stale

    def _parts(self, gates: Array) -> Parts:
        """The parts of gates, from those of the gates above."""
        above = self.trees.above(gates)
        sources, index = np.unique(above, return_inverse=True)
        given = [self.whole if source < 0 else self._held[source] for source in sources.tolist()]
        names = ("low", "high", "below", "above", "empty")
        joined = Parts(*(np.concatenate([getattr(part, name) for part in given]) for name in names))[index]
        self._release(sources[sources >= 0], np.bincount(index)[sources >= 0])
        return narrowed(self.certificate, joined, self.trees.steps(gates, above))

    def _release(self, sources: Array, taken: Array) -> None:
        """Forget parts once all gates below have been begun."""
        for source, count in zip(sources.tolist(), taken.tolist(), strict=True):
            left = self._waiting.get(source, int(np.diff(self._children.start[source : source + 2])[0])) - count
            self._waiting[source] = left
            if left == 0:
                del self._held[source], self._waiting[source]

    def _bound(self, gates: Array, parts: Parts, row: Array, claim: Array) -> None:
        node = self.certificate.claims.node[claim]
        mine = narrowed(self.certificate, parts[row], self.trees.steps(node, gates[row]))
        found = self.claiming.bound(claim, mine)
        self.bound[claim] = found.bound
        self.watch(self, claim, mine, found)
        self._empty.append(node[found.empty])

    def _cut(self, gates: Array, parts: Parts, row: Array, claim: Array) -> None:
        """Cut the parts of cuts by the claims there, for each group on its own; what is left of any group is left."""
        if not len(claim):
            return
        group = self.certificate.claims.group[claim]
        order = np.lexsort((group, row))
        row, claim, group = row[order], claim[order], group[order]
        slope, constant = np.zeros((len(claim), self.network.inputs)), np.zeros(len(claim))
        for some in self._pieces(np.arange(len(claim))):
            found = self.claiming.bound(claim[some], parts[row[some]])
            self.bound[claim[some]] = found.bound
            slope[some], constant[some] = found.slope, found.constant
        fresh = np.ones(len(claim), bool)
        fresh[1:] = (row[1:] != row[:-1]) | (group[1:] != group[:-1])
        pair, first = fresh.cumsum() - 1, fresh.nonzero()[0]
        owner = row[first]
        low, high = cut(parts.low[owner], parts.high[owner], slope, constant, pair)
        gone = np.asarray((low > high).any(1))
        self._cuts.append(Cuts(gates[owner], group[first], gone))
        begin = np.searchsorted(owner, np.unique(owner))
        low, high = np.minimum.reduceat(low, begin), np.maximum.reduceat(high, begin)
        some = owner[begin]
        parts.empty[some] |= (low > high).any(1)
        left = ~(low > high).any(1)
        parts.low[some[left]], parts.high[some[left]] = low[left], high[left]

    def _targets_of(self, gates: Array) -> Targets | None:
        """The targets stored at gates, each for the part of its place in the list."""
        row, place = self._targets.take(gates)
        if not len(row):
            return None
        target, held = self._target[place], self.certificate.targets
        return Targets(row, held.neuron[target], held.upper[target], held.slopes[target], self.claiming.slopes)

    def _pieces(self, index: Array) -> Iterator[Array]:
        largest = int(np.bincount(self.certificate.rows.group).max()) * self.network.outputs
        size = max(1, 4 * ENTRIES // (self.network.neurons + self.network.inputs + largest))
        yield from (index[start : start + size] for start in range(0, len(index), size))


def _put(parts: Parts, index: Array, found: Parts) -> None:
    for name in ("low", "high", "below", "above", "empty"):
        getattr(parts, name)[index] = getattr(found, name)
