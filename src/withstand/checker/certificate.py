"""What a certificate holds: a question about a network, and the split trees and bounds that prove its answer.

The question: does every x of the region have, in each group of rows, some row weight . outputs(x) + offset above the
threshold? The proof: each group belongs to a tree of splits. A *claim* at a node says that over the node's part of the
region a combination of the group's rows is above the threshold. A tree proves its groups when every path from its root
meets a claim of each. The checker computes every claim's bound itself; the certificate only says which lines to use.
"""

from dataclasses import dataclass

import numpy as np

from withstand.checker.region import Region

Array = np.ndarray

LEAF, INPUT_SPLIT, NEURON_SPLIT, CUT = range(4)
"""Kinds of nodes."""

ONCE, TWICE = 1, 2
"""Kinds of anchors."""

PARALLEL = -2
"""Instead of a row of slopes: both lines of each activation are parallel, where they can be."""


@dataclass(frozen=True, eq=False)
class Rows:
    """weight [R, outputs], offset [R], group [R] (0, 1, ... in any order); in each group some row is to be above the
    threshold."""

    weight: Array
    offset: Array
    group: Array
    threshold: float = 0.0

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1


@dataclass(frozen=True, eq=False)
class Nodes:
    """N nodes of all trees.

    kind [N]: LEAF; INPUT_SPLIT: input `place` is <= `point` in the first child and >= `point` in the second;
    NEURON_SPLIT: so is neuron `place` (see `Network.neuron`); CUT: the one child is what the claims at the node leave
    of its box: where in some group that has claims there, all their lower bounds may be at most the threshold.
    anchor [N]: whether all neurons are bounded afresh at the node: ONCE, or TWICE, which bounds those left undecided
    over parallel lines too (0: not). Roots always are. Other nodes use the bounds of the nearest anchor above, cut by
    the splits since.
    place [N], point [N], child [N, 2] (-1: none).
    """

    kind: Array
    anchor: Array
    place: Array
    point: Array
    child: Array

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, eq=False)
class Claims:
    """C claims: over its node, the rows of its group, weighted and added up, are above the threshold.

    node [C], group [C]. weight: for each claim in turn one number >= 0 for each row of its group, in the order of the
    rows, adding up to about 1. slopes [C]: a row of `Slopes`, -1 for the checker's own, or PARALLEL. multipliers: for
    each claim in turn `count` [C] numbers >= 0, either none or one for each neuron split on the way from the root to
    the node.
    """

    node: Array
    group: Array
    weight: Array
    slopes: Array
    multipliers: Array
    count: Array

    def __len__(self) -> int:
        return len(self.node)


@dataclass(frozen=True, eq=False)
class Targets:
    """T bounds of neurons at anchors that are computed with stored slopes.

    node [T]: the anchor. They are in force there and at all anchors below, down to those that have their own; those of
    the first tree's root are in force in all trees. neuron [T]. upper [T]: whether it is the upper bound. slopes [T]: a
    row of `Slopes`.
    """

    node: Array
    neuron: Array
    upper: Array
    slopes: Array

    def __len__(self) -> int:
        return len(self.node)


@dataclass(frozen=True, eq=False)
class Slopes:
    """S rows of slopes of lines, each over a list of neurons; neurons that are not listed get the checker's own.

    list [S]: which list. The lists are neuron[start[i]:start[i + 1]], rising. shares: for each row in turn one byte for
    each listed neuron with a kink: 255 times the share in [0, 1] of the way from the slope left of the kink to the one
    right of it, for the line through the kink. numbers: for each row in turn one float32 slope for each listed neuron
    of another kind, for whichever of its lines is used.
    """

    list: Array
    shares: Array
    numbers: Array
    start: Array
    neuron: Array

    def __len__(self) -> int:
        return len(self.list)


@dataclass(frozen=True, eq=False)
class Certificate:
    """A proof about one network and one region.

    digest: sha256 of the ONNX file's bytes. input_name, input_shape: of its input, with a batch of one.
    root [T]: the first node of each tree. tree [groups]: the tree that proves each group.
    """

    digest: str
    input_name: str
    input_shape: tuple[int, ...]
    region: Region
    rows: Rows
    root: Array
    tree: Array
    nodes: Nodes
    claims: Claims
    targets: Targets
    slopes: Slopes
