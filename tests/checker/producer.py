"""A naive search that makes certificates: it splits until the checker's own bounds suffice."""

from dataclasses import replace

import numpy as np
from checker.nets import network as small_network
from checker.randoms import points_of, random_region, random_rows, trace

from withstand.checker.builder import Builder
from withstand.checker.certificate import Certificate, Rows
from withstand.checker.check import claim_bounds
from withstand.checker.network import Network
from withstand.checker.region import Region


def question(kind: str, seed: int, norm: str = "box", gap: float = 0.3, stretch: float = 1.0):
    """A network, a small region and rows whose least value over it is about `gap` of their spread over a threshold; and
    that value."""
    net, random = small_network(kind, seed), np.random.default_rng(seed)
    region = random_region(net.inputs, random, norm)
    middle, half = (region.low + region.high) / 2, (region.high - region.low) / 2 * stretch
    region = replace(region, low=middle - half, high=middle + half)
    rows = random_rows(net.outputs, random, 2)
    best = points_of(net, region, rows, random).best(rows)
    threshold = float(best.min() - gap * (best.max() - best.min()))
    return net, region, replace(rows, threshold=threshold), float(best.min())


def prove(
    network: Network, region: Region, rows: Rows, *, neurons: bool = True, anchors: bool = True, rounds: int = 12
) -> Certificate | None:
    """A certificate, or None where so many rounds of splits do not suffice.

    neurons: split neurons, in turn with inputs. anchors: have neurons bounded afresh at every node.
    """
    random = np.random.default_rng(0)
    builder = Builder(network, region, rows)
    sizes = np.bincount(rows.group)
    open_groups = {builder.root(): np.arange(rows.groups)}
    x = points_of(network, region, rows, random).x
    inside = dict.fromkeys(open_groups, x)
    for turn in range(rounds):
        node = np.repeat(list(open_groups), [sum(sizes[g]) for g in open_groups.values()])
        group = np.concatenate([np.repeat(g, sizes[g]) for g in open_groups.values()])
        row = np.concatenate([np.arange(size) for g in open_groups.values() for size in sizes[g]])
        if anchors:
            builder.anchor(np.array(list(open_groups)))
        claim = builder.claim(node, group, np.eye(sizes.max())[row])
        found = dict(zip(builder.kept.tolist(), claim_bounds(builder.certificate(), network)))
        bound = np.array([found[c] for c in claim.tolist()])
        builder.drop(claim[bound <= rows.threshold])
        proved = {(n, g) for n, g, b in zip(node.tolist(), group.tolist(), bound) if b > rows.threshold}
        left = {n: np.array([g for g in gs if (n, g) not in proved]) for n, gs in open_groups.items()}
        left = {n: gs for n, gs in left.items() if len(gs)}
        if not left:
            return builder.certificate()
        open_groups = {}
        for parent, groups in left.items():
            for child, points in split(builder, network, parent, inside[parent], neurons and turn % 2 == 0):
                open_groups[child], inside[child] = groups, points
    return None


def split(builder: Builder, network: Network, node: int, x: np.ndarray, neurons: bool) -> list:
    """Halve a node at the neuron, or input, that varies most among its points; the children and their points."""
    column = trace(network, x)[0] if neurons and len(x) else x
    if not len(x):
        x = column = np.zeros((1, network.inputs))
    low, high = column.min(0), column.max(0)
    width = np.minimum(high, -low) if neurons and column is not x else high - low
    place = int(width.argmax())
    point = 0.0 if neurons and not network.curved[place] else (low[place] + high[place]) / 2
    splitter = builder.split_neuron if column is not x else builder.split_input
    left, right = splitter(np.array([node]), np.array([place]), np.array([point]))
    side = column[:, place] <= point
    return [(int(left[0]), x[side]), (int(right[0]), x[~side])]
