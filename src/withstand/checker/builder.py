"""Makes certificates: a search appends nodes and claims as it goes, many at a time."""

import numpy as np

from withstand.checker.certificate import (
    CUT,
    INPUT_SPLIT,
    NEURON_SPLIT,
    ONCE,
    Certificate,
    Claims,
    Nodes,
    Rows,
    Slopes,
    Targets,
)
from withstand.checker.network import Network
from withstand.checker.ragged import Ragged
from withstand.checker.region import Region

Array = np.ndarray


class _Column:
    """An array that grows, in one type."""

    def __init__(self, dtype: str, width: tuple[int, ...] = ()) -> None:
        self._held, self.size = np.zeros((16, *width), dtype), 0

    @property
    def array(self) -> Array:
        """What it holds; writing to it writes to the column."""
        return self._held[: self.size]

    def append(self, values: object, count: int | None = None) -> None:
        """Add values, or one value so many times."""
        given = np.asarray(values, self._held.dtype)
        need = self.size + (len(given) if count is None else count)
        if need > len(self._held):
            larger = np.zeros((2 * need, *self._held.shape[1:]), self._held.dtype)
            larger[: self.size] = self.array
            self._held = larger
        self._held[self.size : need] = given
        self.size = need


class Builder:
    """A certificate while it grows.

    Nodes, claims and rows of slopes are named by their numbers. Neurons are numbered through all activations (see
    `Network.neuron`).
    """

    def __init__(self, network: Network, region: Region, rows: Rows) -> None:
        self.network, self.region, self.rows = network, region, rows
        self._members, _ = Ragged.sorted(rows.group, rows.groups)
        self._tree = np.full(rows.groups, -1)
        self._root, self._kind, self._anchor = _Column("i4"), _Column("u1"), _Column("u1")
        self._place, self._point, self._child = _Column("i4"), _Column("f8"), _Column("i4", (2,))
        self._pulls = _Column("i4")
        self._node, self._group, self._row = _Column("i4"), _Column("i4"), _Column("i4")
        self._weight, self._multiplier, self._count = _Column("f4"), _Column("f4"), _Column("i4")
        self._list, self._share, self._number = _Column("i4"), _Column("u1"), _Column("f4")
        self._lists: dict[bytes, int] = {}
        self._targets = _Column("i4"), _Column("i4"), _Column("?"), _Column("i4")
        self._dropped: list[Array] = []

    def root(self, groups: Array | None = None) -> int:
        """A new tree that proves the groups (all unless given), and its root."""
        node = self._nodes(1, np.zeros(1, int))
        self._tree[slice(None) if groups is None else groups] = self._root.size
        self._root.append(node)
        self._anchor.array[node] = ONCE
        return int(node[0])

    def split_input(self, node: Array, axis: Array, point: Array) -> tuple[Array, Array]:
        """Split leaves [K] at inputs [K]: the children with input <= point and with input >= point."""
        return self._split(INPUT_SPLIT, node, axis, point, 0)

    def split_neuron(self, node: Array, neuron: Array, point: Array) -> tuple[Array, Array]:
        """Split leaves [K] at neurons [K]: the children with neuron <= point and with neuron >= point."""
        return self._split(NEURON_SPLIT, node, neuron, point, 1)

    def cut(self, node: Array) -> Array:
        """Leave of the box of leaves [K] only what the claims at them leave open: their only children."""
        child = self._nodes(len(node), self._pulls.array[node])
        self._kind.array[node] = CUT
        self._child.array[node, 0] = child
        return child

    def anchor(self, node: Array, kind: int = ONCE) -> None:
        """Have all neurons bounded afresh at nodes, ONCE or TWICE."""
        self._anchor.array[node] = kind

    def slopes(self, neurons: Array, values: Array) -> Array:
        """Store slopes [K, n] of neurons [n], none twice: shares in [0, 1] for those with a kink (rounded to 1/255),
        numbers for others. Gives the numbers of the K rows."""
        order = np.argsort(neurons)
        neurons, values = np.asarray(neurons, "i4")[order], np.asarray(values)[:, order]
        curved = self.network.curved[neurons]
        self._share.append(np.rint(np.clip(values[:, ~curved], 0, 1) * 255).ravel())
        self._number.append(values[:, curved].ravel())
        number = self._lists.setdefault(neurons.tobytes(), len(self._lists))
        self._list.append(number, len(values))
        return np.arange(self._list.size - len(values), self._list.size)

    def claim(
        self,
        node: Array,
        group: Array,
        weights: Array | None = None,
        slopes: Array | None = None,
        multipliers: Array | None = None,
    ) -> Array:
        """Claim groups [K] at nodes [K]. Gives the claims' numbers.

        weights [K, w]: of each group's rows, in the order of the rows; columns beyond the group's size are left out.
        None: equal weights. slopes [K]: rows of slopes, -1 or None for the checker's own, or PARALLEL.
        multipliers [K, d]: of the neuron splits from the root to the node; columns beyond their number are left out.
        """
        count = len(node)
        sizes = np.diff(self._members.start)[group]
        if weights is None:
            weights = np.broadcast_to(1 / sizes[:, None], (count, int(sizes.max(initial=1))))
        self._weight.append(weights[np.arange(weights.shape[1]) < sizes[:, None]])
        splits = self._pulls.array[node] if multipliers is not None else np.zeros(count, int)
        if multipliers is not None:
            self._multiplier.append(multipliers[np.arange(multipliers.shape[1]) < splits[:, None]])
        self._count.append(splits)
        self._node.append(node)
        self._group.append(group)
        self._row.append(-1 if slopes is None else slopes, count)
        return np.arange(self._node.size - count, self._node.size)

    def drop(self, claim: Array) -> None:
        """Take claims back."""
        self._dropped.append(np.asarray(claim))

    def bound(self, node: Array, neuron: Array, upper: Array, slopes: Array) -> None:
        """Have bounds of neurons [T] at anchors [T], upper ones where `upper` [T], computed with slopes [T] (rows)."""
        for column, values in zip(self._targets, (node, neuron, upper, slopes), strict=True):
            column.append(values)

    @property
    def kept(self) -> Array:
        """The numbers of the claims not taken back, which are those of the certificate in their order."""
        kept = np.ones(self._node.size, bool)
        kept[np.concatenate([np.zeros(0, int), *self._dropped])] = False
        return kept.nonzero()[0]

    def certificate(self) -> Certificate:
        """What was built so far."""
        claim = self.kept
        weight = Ragged.of(np.diff(self._members.start)[self._group.array]).take(claim)[1]
        multiplier = Ragged.of(self._count.array).take(claim)[1]
        lists = [np.frombuffer(key, "i4") for key in self._lists]
        start = np.concatenate([[0], np.cumsum([len(neurons) for neurons in lists], dtype=np.int64)]).astype(np.int64)
        neurons = np.concatenate([np.zeros(0, "i4"), *lists])
        nodes = (self._kind, self._anchor, self._place, self._point, self._child)
        claims = Claims(
            self._node.array[claim],
            self._group.array[claim],
            self._weight.array[weight],
            self._row.array[claim],
            self._multiplier.array[multiplier],
            self._count.array[claim],
        )
        return Certificate(
            self.network.digest,
            self.network.input_name,
            self.network.input_shape,
            self.region,
            self.rows,
            self._root.array.copy(),
            self._tree.astype("i4"),
            Nodes(*(column.array.copy() for column in nodes)),
            claims,
            Targets(*(column.array.copy() for column in self._targets)),
            Slopes(self._list.array.copy(), self._share.array.copy(), self._number.array.copy(), start, neurons),
        )

    def _nodes(self, count: int, pulls: Array) -> Array:
        for column in (self._kind, self._anchor, self._place, self._point):
            column.append(0, count)
        self._child.append(-1, count)
        self._pulls.append(pulls)
        return np.arange(self._kind.size - count, self._kind.size)

    def _split(self, kind: int, node: Array, place: Array, point: Array, pulls: int) -> tuple[Array, Array]:
        above = np.tile(self._pulls.array[node] + pulls, 2)
        children = self._nodes(2 * len(node), above).reshape(2, -1)
        self._kind.array[node], self._place.array[node], self._point.array[node] = kind, place, point
        self._child.array[node] = children.T
        return children[0], children[1]
