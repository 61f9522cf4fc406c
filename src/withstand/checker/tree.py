"""The trees of a certificate: their shape is checked, and every node knows its place."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from withstand.checker.certificate import CUT, INPUT_SPLIT, LEAF, NEURON_SPLIT, TWICE, Certificate
from withstand.core.errors import InputError

Array = np.ndarray

DEEPEST = 10_000
"""No path may be longer."""


class Steps(NamedTuple):
    """Splits on the way down to nodes: for each the row of the node it is about, the node split, and the side taken."""

    row: Array
    node: Array
    side: Array


@dataclass(frozen=True, eq=False)
class Trees:
    """parent [N] (-1: a root), side [N] (0 or 1), tree [N], pulls [N]: neuron splits above the node. gate [N]: the
    nearest node at or above that is an anchor, a cut or a root.

    first [N], last [N]: the stretch of leaves below the node, leaves being numbered from left to right through all
    trees. What a cut takes away counts as one leaf more, the first below the cut.
    """

    certificate: Certificate
    parent: Array
    side: Array
    tree: Array
    pulls: Array
    gate: Array
    first: Array
    last: Array

    def above(self, node: Array) -> Array:
        """The nearest gates strictly above nodes [K]; -1 for roots."""
        parent = self.parent[node]
        return np.where(parent < 0, -1, self.gate[parent])

    def steps(self, node: Array, stop: Array) -> Steps:
        """The splits from the nodes `stop` [K], which lie above (-1: from the root), down to the nodes [K]."""
        found, row, current = [], np.arange(len(node)), node
        while True:
            going = (current != stop[row]) & (self.parent[current] >= 0)
            row, current = row[going], current[going]
            if not len(row):
                break
            parent = self.parent[current]
            found.append(Steps(row, parent, self.side[current]))
            current = parent
        if not found:
            empty = np.zeros(0, np.int64)
            return Steps(empty, empty, empty)
        return Steps(*(np.concatenate(column[::-1]) for column in zip(*found, strict=True)))


def grow(certificate: Certificate) -> Trees:
    """Check that the nodes form trees, and walk them.

    Raises InputError when they do not.
    """
    nodes, count = certificate.nodes, len(certificate.nodes)
    wanted = np.array([0, 2, 2, 1])[nodes.kind]
    has = nodes.child >= 0
    if (has.sum(1) != wanted).any() or (has[:, 1] & ~has[:, 0]).any() or (nodes.child >= count).any():
        raise InputError("The certificate's trees are damaged: a node has too many or too few children.")
    if (nodes.child < -1).any() or (certificate.root < 0).any() or (certificate.root >= count).any():
        raise InputError("The certificate's trees are damaged: a node's number is out of range.")
    parent, side = np.full(count, -1), np.zeros(count, np.int64)
    for k in (0, 1):
        mine = has[:, k].nonzero()[0]
        parent[nodes.child[mine, k]], side[nodes.child[mine, k]] = mine, k
    met = np.bincount(nodes.child[has], minlength=count) + np.bincount(certificate.root, minlength=count)
    if (met != 1).any():
        raise InputError("The certificate's trees are damaged: a node has several parents, or none.")
    levels = [certificate.root.astype(np.int64)]
    while len(levels[-1]):
        if len(levels) > DEEPEST:
            raise InputError(f"The certificate's trees are deeper than {DEEPEST:,} splits.")
        below = nodes.child[levels[-1]].T.ravel()
        levels.append(below[below >= 0].astype(np.int64))
    if sum(map(len, levels)) != count:
        raise InputError("The certificate's trees are damaged: nodes form a circle.")
    return _numbered(certificate, parent, side, tuple(levels[:-1]))


def _numbered(certificate: Certificate, parent: Array, side: Array, levels: tuple[Array, ...]) -> Trees:
    nodes, count = certificate.nodes, len(parent)
    tree, pulls, gate = np.zeros(count, np.int64), np.zeros(count, np.int64), np.arange(count)
    tree[levels[0]] = np.arange(len(levels[0]))
    opens = (nodes.anchor > 0) | (nodes.kind == CUT)
    for level in levels[1:]:
        tree[level] = tree[parent[level]]
        pulls[level] = pulls[parent[level]] + (nodes.kind[parent[level]] == NEURON_SPLIT)
        gate[level] = np.where(opens[level], level, gate[parent[level]])
    leaves = (nodes.kind == LEAF).astype(np.int64) + (nodes.kind == CUT)
    for level in reversed(levels[1:]):
        np.add.at(leaves, parent[level], leaves[level])
    first = np.zeros(count, np.int64)
    ends = leaves[levels[0]].cumsum()
    first[levels[0]] = ends - leaves[levels[0]]
    for level in levels[1:]:
        above = parent[level]
        left = np.where(side[level] == 1, leaves[nodes.child[above, 0]], 0)
        first[level] = first[above] + (nodes.kind[above] == CUT) + left
    return Trees(certificate, parent, side, tree, pulls, gate, first, first + leaves)


def covered(trees: Trees, node: Array, group: Array, single: Array, empty: Array) -> Array:
    """Which groups are proved: bool [groups].

    Group `group` [P] is proved at the nodes `node` [P]: in all of the node's part, or where `single` [P] in what a cut
    takes away there. The parts of the nodes `empty` hold no points and need no proof.
    """
    certificate = trees.certificate
    total = int(trees.last[certificate.root].max(initial=0))
    change = np.zeros(total + 1, np.int64)
    np.add.at(change, trees.first[empty], 1)
    np.add.at(change, trees.last[empty], -1)
    place = np.concatenate([[0], (change.cumsum()[:-1] == 0).cumsum()])
    first = trees.first[node]
    last = np.where(single, first + 1, trees.last[node])
    proved = np.zeros(len(certificate.tree), bool)
    order = np.lexsort((place[first], group))
    bounds = np.searchsorted(group[order], np.arange(len(proved) + 1))
    for number in range(len(proved)):
        mine = order[bounds[number] : bounds[number + 1]]
        root = certificate.root[certificate.tree[number]]
        start, end = place[trees.first[root]], place[trees.last[root]]
        reach = np.maximum.accumulate(np.concatenate([[start], place[last[mine]]]))
        proved[number] = (place[first[mine]] <= reach[:-1]).all() and reach[-1] >= end
    return proved


def kinds_in_range(certificate: Certificate, inputs: int, neurons: int) -> None:
    """Check what nodes say of themselves.

    Raises InputError for a kind that does not exist, a split of an input or neuron that does not, or at no number.
    """
    nodes = certificate.nodes
    if (nodes.kind > CUT).any() or (nodes.anchor > TWICE).any():
        raise InputError("The certificate has nodes of an unknown kind.")
    for kind, size, what in ((INPUT_SPLIT, inputs, "an input"), (NEURON_SPLIT, neurons, "a neuron")):
        mine = nodes.kind == kind
        place = nodes.place[mine]
        if ((place < 0) | (place >= size)).any():
            raise InputError(f"The certificate splits {what} that the network does not have.")
        if not np.isfinite(nodes.point[mine]).all():
            raise InputError(f"The certificate splits {what} at no finite number.")
