"""What a search over the phases of neurons does, told to the certificate of its question."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from withstand.checker.builder import Builder
from withstand.checker.functions import Kinked
from withstand.checker.ragged import Ragged
from withstand.graph.ir import Graph
from withstand.verification.dual import Ascent, Dual, Found, bound, start
from withstand.verification.numbering import numbers
from withstand.verification.problem import Problem
from withstand.verification.proof import Proof
from withstand.verification.reduced import Neurons, Reduced
from withstand.verification.tighten import Slopes, ahead

Array = np.ndarray


class Paths:
    """The splits above every node of a certificate.

    parent [N] (-1: a root), neuron [N], point [N] and side [N]: which neuron was split above the node, where, and the
    side taken. depth [N]: splits above.
    """

    def __init__(self, roots: int) -> None:
        kinds = {"parent": "i8", "neuron": "i8", "side": "i8", "depth": "i8", "point": "f8"}
        self._held = {name: np.zeros(64, kind) for name, kind in kinds.items()}
        none = np.full(roots, -1)
        self.size, self.parent = 0, none
        self._append(parent=none, neuron=none, side=none, depth=none + 1, point=none)

    def _append(self, **columns: Array) -> None:
        need = self.size + len(columns["parent"])
        for name, values in columns.items():
            if need > len(self._held[name]):
                self._held[name] = np.concatenate([self._held[name], np.zeros(2 * need, self._held[name].dtype)])
            self._held[name][self.size : need] = values
        self.size = need
        self.parent, self.neuron, self.side, self.depth, self.point = (held[:need] for held in self._held.values())

    def split(self, node: Array, neuron: Array, point: Array) -> None:
        """Nodes [K] have got children: the next 2 K nodes, all lower ones first."""
        parent, side = np.tile(node, 2), np.repeat([0, 1], len(node))
        depth, point = self.depth[parent] + 1, np.tile(point, 2)
        self._append(parent=parent, neuron=np.tile(neuron, 2), side=side, depth=depth, point=point)

    def up(self, node: Array) -> tuple[Array, Array]:
        """All nodes from nodes [K] up to below their roots, the lowest first: which k each is of, and the node."""
        rows, nodes, row = [], [], np.arange(len(node))
        while True:
            going = self.parent[node] >= 0
            row, node = row[going], node[going]
            if not len(row):
                break
            rows.append(row)
            nodes.append(node)
            node = self.parent[node]
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *rows]), np.concatenate([none, *nodes])

    def at(self, node: Array, depth: int) -> Array:
        """The nodes at a depth above nodes [K], which lie there or deeper."""
        while (deeper := self.depth[node] > depth).any():
            node = np.where(deeper, self.parent[node], node)
        return node


class Recorder:
    """The certificate of one question while a search makes it: one tree of splits for each group of rows.

    whole: the search's network before bounds that are found later decide any of its neurons. numbers: the checker's
    neurons by the graph's nodes (see `numbering`). roots [groups]: the trees' first nodes.
    """

    def __init__(self, proof: Proof, graph: Graph, whole: Reduced) -> None:
        self.proof, self.whole, self.numbers = proof, whole, numbers(graph, proof.network)
        self._targets: dict[tuple[int, bool], tuple[Array, Array]] = {}
        self._group = torch.from_numpy(proof.rows.group.astype(np.int64))
        self._members = Ragged.sorted(proof.rows.group, proof.rows.groups)
        self._kinks = _kinks(proof)
        self.builder: Builder
        self.restart()

    def restart(self) -> None:
        """Forget splits and claims, but not what is known of neurons over the whole region."""
        groups = self.proof.rows.groups
        self.builder, self.paths = self.proof.begin(), Paths(groups)
        self.roots = np.array([self.builder.root(np.array([group])) for group in range(groups)])

    def of(self, network: Reduced) -> Array:
        """The checker's numbers of the neurons of a reduced network: [U]."""
        blocks = [block for block in network.neurons if isinstance(block, Neurons)]
        parts = [self.numbers[block.node.name][block.place.numpy()] for block in blocks]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def root(self, group: Tensor) -> Tensor:
        """The root of each group [P]."""
        return torch.from_numpy(self.roots)[group]

    def rows(self, network: Reduced, found: Found, best: Tensor, proved: Tensor) -> None:
        """All groups are tried anew at their roots: of the rows found, `best` [groups] prove those that are proved."""
        self.restart()
        group = proved.nonzero().squeeze(1)
        mix = torch.nn.functional.one_hot(best[group], len(found)).to(found.bound)
        self.claim(network, found[best[group]], mix, group, self.root(group))

    def hold(self, network: Reduced, dual: Dual, mix: Tensor, group: Tensor, node: Tensor) -> None:
        """Claim the groups [K] of domains that are empty or were bounded elsewhere, with any choices."""
        if len(node):
            self.claim(network, bound(network, dual, mix, Ascent(steps=0)), mix, group, node)

    def target(self, before: Reduced, after: Reduced, slopes: Slopes) -> None:
        """Bounds of one block's neurons over the whole region have become tighter by slopes."""
        neurons, first = self.of(after), slopes.first
        count = len(after.blocks[slopes.block])
        own = slice(first, first + count)
        shares = self.shares(neurons[:first], slopes.lower, _used(before, slopes))
        tighter = after.low[own] > before.low[own], after.high[own] < before.high[own]
        for upper, better in enumerate(tighter):
            for k in better.nonzero().squeeze(1).tolist():
                self._targets[int(neurons[first + k]), bool(upper)] = neurons[:first], shares[k + upper * count]

    def aim(self) -> None:
        """Store the slopes of the neurons' bounds over the whole region."""
        by_list: dict[bytes, list[tuple[int, bool]]] = {}
        for key, (listed, _) in self._targets.items():
            by_list.setdefault(listed.tobytes(), []).append(key)
        for keys in by_list.values():
            listed = self._targets[keys[0]][0]
            rows = self.builder.slopes(listed, np.stack([self._targets[key][1] for key in keys]))
            neuron, upper = (np.array(column) for column in zip(*keys, strict=True))
            self.builder.bound(np.full(len(keys), self.roots[0]), neuron, upper, rows)

    def split(self, network: Reduced, node: Tensor, neuron: Tensor, point: Tensor) -> Tensor:
        """The children of nodes [K] split at neurons [K] of a reduced network: all lower ones, then all upper ones."""
        parent, place, at = node.numpy(), self.of(network)[neuron.numpy()], point.double().numpy()
        self.paths.split(parent, place, at)
        return torch.from_numpy(np.concatenate(self.builder.split_neuron(parent, place, at)))

    def claim(self, network: Reduced, found: Found, mix: Tensor, group: Tensor, node: Tensor) -> Array:
        """Claim the groups [K] of domains at nodes [K], with the choices that bound them; gives the claims' numbers."""
        neurons, at = self.of(network), node.numpy()
        lists, members = self._members
        sizes = np.diff(lists.start)
        columns = lists.start[group.numpy()][:, None] + np.arange(sizes.max())
        weights = np.take_along_axis(mix.double().numpy(), members[np.minimum(columns, len(members) - 1)], 1)
        if not len(at):
            return at
        dual = found.dual
        chosen = torch.where(found.parts >= 0, dual.lower, dual.upper)
        rows = self.builder.slopes(neurons, self.shares(neurons, dual.lower, chosen))
        return self.builder.claim(at, group.numpy(), weights, rows, self.multipliers(neurons, dual, at))

    def stored(self, neurons: Array, claim: Array) -> tuple[Tensor, Tensor]:
        """Prices of the neurons [K, U], those of upper edges with a minus, and mix of rows [K, R] of claims [K], which
        count as those of the certificate so far."""
        held, (lists, members) = self.builder.certificate().claims, self._members
        mix, price = np.zeros((len(claim), len(members))), np.zeros((len(claim), len(neurons)))
        owner, place = lists.take(held.group[claim])
        mix[owner, members[place]] = held.weight[Ragged.of(np.diff(lists.start)[held.group]).take(claim)[1]]
        where = np.full(self.proof.network.neurons, -1)
        where[neurons] = np.arange(len(neurons))
        row, above = self.paths.up(held.node[claim])
        first, count = (np.cumsum(held.count) - held.count)[claim], held.count[claim]
        told = (count[row] > 0) & (where[self.paths.neuron[above]] >= 0)
        row, above = row[told], above[told]
        place = where[self.paths.neuron[above]]
        signed = held.multipliers[first[row] + self.paths.depth[above] - 1] * (2 * self.paths.side[above] - 1)
        np.add.at(price, (row, place), signed)
        return torch.from_numpy(price), torch.from_numpy(mix)

    def aims(self, network: Reduced) -> list[Slopes]:
        """The slopes with which the checker bounds the neurons of a network afresh, for each block but the first; where
        none are stored, those of plain CROWN over the whole region, about as the checker does it."""
        neurons, own = self.of(network), start(network)
        kinked, found, first = self.kinked(neurons), [], 0
        for number, block in enumerate(network.blocks):
            if not isinstance(block, Neurons):
                continue
            if first:
                lower, upper = (side[0, :first].repeat(2 * len(block), 1) for side in (own.lower, own.upper))
                for k, row in enumerate(lower):
                    key = int(neurons[first + k % len(block)]), k >= len(block)
                    if key in self._targets:
                        row.copy_(self.values(neurons[:first], *self._targets[key], row))
                        upper[k] = torch.where(kinked[:first], upper[k], row)
                found.append(Slopes(number, first, lower, upper))
            first += len(block)
        return found

    def values(self, neurons: Array, listed: Array, shares: Array, default: Tensor) -> Tensor:
        """Slopes of neurons [n] from shares of those listed, as certificates have them."""
        known = np.full(self.proof.network.neurons, np.nan)
        known[listed] = self.rounded(listed, shares)
        return self.slopes(neurons, known[None, neurons], default[None])[0]

    def kinked(self, neurons: Array) -> Tensor:
        """Which neurons [n] have a kink, and so a slope only for the line through it."""
        return torch.from_numpy(self._kinks[2][neurons])

    def rounded(self, neurons: Array, shares: Array) -> Array:
        """Slopes [..., n] of neurons [n] as certificates have them, after their rounding in the file."""
        return np.where(self._kinks[2][neurons], np.rint(shares * 255) / 255, shares.astype(np.float32))

    def as_stored(self, network: Reduced, found: Found) -> Dual:
        """The choices that a claim of domains has after rounding: slopes in bytes, the rest in float32."""
        neurons, dual = self.of(network), found.dual
        chosen = torch.where(found.parts >= 0, dual.lower, dual.upper)
        lower = self.slopes(neurons, self.rounded(neurons, self.shares(neurons, dual.lower, chosen)), dual.lower)
        upper = torch.where(self.kinked(neurons), dual.upper, lower)
        return replace(dual, lower=lower, upper=upper, price=dual.price.float().double())

    def slopes(self, neurons: Array, stored: Array, default: Tensor) -> Tensor:
        """Slopes [K, n] of neurons [n] from what certificates have, NaN where nothing is."""
        left, right, kinked, _ = (part[neurons] for part in self._kinks)
        found = np.where(kinked, left + (right - left) * stored, stored)
        return torch.where(torch.from_numpy(np.isnan(found)), default, torch.from_numpy(found))

    def shares(self, neurons: Array, lower: Tensor, chosen: Tensor) -> Array:
        """Slopes [K, n] of neurons [n] as certificates have them: where there is a kink the share of the way between
        the slopes on both sides, elsewhere the slope of the line that is used."""
        left, right, kinked, convex = (part[neurons] for part in self._kinks)
        values, used = lower.double().numpy(), chosen.double().numpy()
        values = np.where(convex, values, used)
        width = np.where(right == left, 1.0, right - left)
        return np.where(kinked, ((values - left) / width).clip(0, 1), used)

    def multipliers(self, neurons: Array, dual: Dual, node: Array) -> Array:
        """What prices of neurons say of the splits above nodes [K], from the root on: [K, splits]."""
        depth = self.paths.depth
        found = np.zeros((len(node), int(depth[node].max(initial=0))))
        if not found.size:
            return found
        row, above = self.paths.up(node)
        where = np.full(self.proof.network.neurons, -1)
        where[neurons] = np.arange(len(neurons))
        place, side = where[self.paths.neuron[above]], self.paths.side[above]
        _, first = np.unique((row * (len(neurons) + 1) + place + 1) * 2 + side, return_index=True)
        first = first[place[first] >= 0]
        row, above, place, side = row[first], above[first], place[first], side[first]
        sign, price = (t.double().numpy()[row, place] for t in (dual.phase.sign(), dual.price))
        found[row, depth[above] - 1] = np.where(sign == 2 * side - 1, price, 0.0)
        return found


def recorder_of(problem: Problem, place: int, network: Reduced) -> Recorder | None:
    """What writes the certificate of one question of a problem; None where none is wanted, or where functions of several
    values may be cut, whose arguments have no numbers here."""
    if problem.proofs is None or not all(isinstance(block, Neurons) for block in network.neurons):
        return None
    return Recorder(problem.proofs[place], problem.graph, network)


def _used(network: Reduced, slopes: Slopes) -> Tensor:
    """The slopes of the lines that the bounds of one block's neurons use."""
    if network.relu:
        return slopes.lower
    part = ahead(network, slopes.block)
    dual = replace(start(part)[torch.zeros(len(slopes.lower)).long()], lower=slopes.lower, upper=slopes.upper)
    return torch.where(bound(part, dual, None, Ascent(steps=0)).parts >= 0, slopes.lower, slopes.upper)


def _kinks(proof: Proof) -> tuple[Array, Array, Array, Array]:
    """Of every neuron the slopes left and right of its kink, whether it has one, and whether it bends upward there."""
    network = proof.network
    left, right = np.zeros(network.neurons), np.ones(network.neurons)
    kinked = np.zeros(network.neurons, bool)
    for step in network.activations:
        if isinstance(step.function, Kinked):
            left[step.neurons], right[step.neurons] = step.function.left, step.function.right
            kinked[step.neurons] = True
    return left, right, kinked, left <= right
