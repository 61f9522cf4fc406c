"""Random certificates, right or wrong, and points that know to which of their nodes they belong."""

from dataclasses import dataclass

import numpy as np

from withstand.checker.builder import Builder
from withstand.checker.certificate import CUT, INPUT_SPLIT, PARALLEL, Certificate, Rows
from withstand.checker.network import Activation, Network
from withstand.checker.region import Region

EDGE = 1e-9
"""How far inside a split a point must lie to count as of that side."""


def random_region(inputs: int, random: np.random.Generator, norm: str) -> Region:
    """A region around a random centre."""
    centre, width = random.normal(size=inputs), random.uniform(0.1, 1.0)
    low, high = centre - width * random.uniform(0, 1, inputs), centre + width * random.uniform(0, 1, inputs)
    if norm == "box":
        return Region(low, high)
    return Region(low, high, norm, centre, width * random.uniform(0.3, 1.5))


def random_rows(outputs: int, random: np.random.Generator, groups: int, threshold: float = 0.0) -> Rows:
    """Groups of one to three random rows, in mixed order."""
    group = np.concatenate([np.arange(groups), random.integers(0, groups, groups)])
    random.shuffle(group)
    size = len(group)
    return Rows(random.normal(size=(size, outputs)), random.normal(size=size), group.astype(np.int32), threshold)


def random_certificate(network: Network, seed: int, norm: str = "box", splits: int = 12) -> Certificate:
    """Trees of random splits, cuts and anchors, with random claims, slopes, multipliers and targets."""
    random = np.random.default_rng(seed)
    region = random_region(network.inputs, random, norm)
    rows = random_rows(network.outputs, random, 3, float(random.normal()))
    builder = Builder(network, region, rows)
    groups = {builder.root(np.array([0, 2])): np.array([0, 2]), builder.root(np.array([1])): np.array([1])}
    leaves = list(groups)
    for _ in range(splits):
        leaf = leaves.pop(random.integers(len(leaves)))
        node = np.array([leaf])
        if random.random() < 0.3:
            builder.anchor(node, int(random.integers(1, 3)))
        match random.integers(5):
            case 0 | 1:
                axis = random.integers(network.inputs)
                point = random.uniform(region.low[axis], region.high[axis])
                children = builder.split_input(node, np.array([axis]), np.array([point]))
            case 2 | 3:
                point = random.choice([0.0, random.normal() / 2])
                children = builder.split_neuron(node, random.integers(network.neurons, size=1), np.array([point]))
            case _:
                children = (builder.cut(node),)
        for (child,) in children:
            groups[int(child)] = groups[leaf]
            leaves.append(int(child))
    count = 2 * splits + 4
    node = random.choice(list(groups), count)
    group = np.array([random.choice(groups[n]) for n in node.tolist()])
    weights = random.dirichlet(np.ones(6), count).astype(np.float32)
    sizes = np.bincount(rows.group)[group]
    weights[np.arange(6) >= sizes[:, None]] = 0
    weights /= weights.sum(1, keepdims=True)
    stored = [-1]
    for _ in range(3):
        listed = random.choice(network.neurons, random.integers(1, network.neurons), replace=False)
        stored += builder.slopes(listed, random.uniform(0, 1, (2, len(listed)))).tolist()
    multipliers = random.exponential(0.3, (count, splits)) if random.random() < 0.8 else None
    builder.claim(node, group, weights, random.choice([*stored, PARALLEL], count), multipliers)
    anchors = builder.certificate().nodes.anchor.nonzero()[0]
    aims = random.choice(anchors, 5), random.integers(network.neurons, size=5), random.random(5) < 0.5
    builder.bound(*aims, random.choice(stored[1:], 5))
    return builder.certificate()


@dataclass
class Points:
    """Points of a region with the neurons' values and the rows' values there."""

    x: np.ndarray
    neurons: np.ndarray
    rows: np.ndarray

    def best(self, rows: Rows) -> np.ndarray:
        """The best row of every group: [points, groups]."""
        return np.stack([self.rows[:, rows.group == g].max(1) for g in range(rows.groups)], 1)


def points_of(network: Network, region: Region, rows: Rows, random: np.random.Generator, count: int = 2000) -> Points:
    """Points inside, in corners and on edges of a region."""
    share = np.where(random.random((count, network.inputs)) < 0.3, random.integers(0, 2, (count, network.inputs)), 0.0)
    inside = random.random((count, network.inputs))
    share = np.where((random.random(count) < 0.5)[:, None], inside, np.where(share > 0, share, inside))
    x = region.low + (region.high - region.low) * share
    if region.norm != "box":
        assert region.centre is not None
        step = x - region.centre
        size = np.abs(step).sum(1) if region.norm == "l1" else np.sqrt((step**2).sum(1))
        step *= np.minimum(1, region.radius * (1 - 1e-12) / size)[:, None]
        x = region.centre + step
        x = x[((x >= region.low) & (x <= region.high)).all(1)]
    neurons, outputs = trace(network, x)
    return Points(x, neurons, outputs @ rows.weight.T + rows.offset)


def trace(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neurons' values and the outputs at points."""
    values = {0: x}
    for step in network.steps:
        if isinstance(step, Activation):
            values[step.out] = step.function.value(values[step.source])
        else:
            parts = [m.forward(values[s]) for s, m in zip(step.sources, step.maps)]
            values[step.out] = sum(parts[1:], parts[0]) + (0 if step.bias is None else step.bias)
    neurons = [values[a.source] for a in network.activations]
    return np.concatenate([*neurons, np.zeros((len(x), 0))], 1), values[network.output]


def members(certificate: Certificate, points: Points) -> np.ndarray:
    """Which points surely belong to each node's part: bool [nodes, points]."""
    nodes = certificate.nodes
    found = np.zeros((len(nodes), len(points.x)), bool)
    found[certificate.root] = True
    bad = points.best(certificate.rows) <= certificate.rows.threshold - EDGE
    queue = certificate.root.tolist()
    while queue:
        node = queue.pop()
        left, right = nodes.child[node].tolist()
        if nodes.kind[node] == CUT:
            listed = certificate.claims.group[certificate.claims.node == node]
            found[left] = found[node] & (bad[:, listed].any(1) if len(listed) else np.True_)
            queue.append(left)
        elif left >= 0:
            column = points.x if nodes.kind[node] == INPUT_SPLIT else points.neurons
            value, point = column[:, nodes.place[node]], nodes.point[node]
            found[left] = found[node] & (value <= point - EDGE)
            found[right] = found[node] & (value >= point + EDGE)
            queue += [left, right]
    return found
