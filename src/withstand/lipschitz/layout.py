"""A graph as its bends (the nodes that are not affine) and the linear maps between them."""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from withstand.graph.ir import Graph, Node
from withstand.graph.simplify import simplify
from withstand.lipschitz.maps import LinearMap, is_affine, sources


@dataclass(frozen=True, eq=False)
class Layout:
    """The graph, simplified and in float64, and where it is cut.

    joints: by name in order, with their nodes: the bends, and the affine values that are read more than once. Affine
    nodes in a row between joints are one map, so that a network without bends is one map altogether.
    maps: to each joint and to the output (keyed by ""), for each value that it reads, the maps from the input or from
    earlier joints that add up to the value.
    """

    graph: Graph
    shapes: Mapping[str, torch.Size]
    joints: Mapping[str, Node]
    maps: Mapping[str, list[list[LinearMap]]]

    def bends(self, name: str) -> bool:
        """Whether a joint is a bend."""
        return not is_affine(self.graph, self.joints[name])


def layout(graph: Graph) -> Layout:
    """Cut a graph. Raises InputError when an operator has no bound rule."""
    graph = simplify(copy.deepcopy(graph).double().cpu())
    with torch.no_grad():
        traced = graph.trace(torch.zeros(1, *graph.input_shape, dtype=torch.float64))
    shapes = {name: value.shape[1:] for name, value in traced.items()}
    reads = Counter(name for node in graph.nodes for name in sources(graph, node))
    joints = {node.name: node for node in graph.nodes if not is_affine(graph, node) or reads[node.name] > 1}
    cut = Layout(graph, shapes, joints, {})
    maps = {}
    for name, node in joints.items():
        maps[name] = [_into(cut, value) for value in sources(graph, node)] if cut.bends(name) else [_behind(cut, name)]
    return Layout(graph, shapes, joints, {**maps, "": [_into(cut, graph.output)]})


def _into(cut: Layout, value: str) -> list[LinearMap]:
    """The maps whose results add up to the value."""
    if value in cut.joints or value == cut.graph.input:
        return [LinearMap(cut.graph, value, value, (), cut.shapes)]
    return _behind(cut, value)


def _behind(cut: Layout, value: str) -> list[LinearMap]:
    """The same for an affine value, even where it is itself a joint."""
    wanted, starts, nodes = {value}, set(), []
    for node in reversed(cut.graph.nodes):
        if node.name in wanted:
            nodes.insert(0, node)
            read = set(sources(cut.graph, node))
            ends = {name for name in read if name in cut.joints or name == cut.graph.input}
            starts |= ends
            wanted |= read - ends
    return [_between(cut, start, value, nodes) for start in (cut.graph.input, *cut.joints) if start in starts]


def _between(cut: Layout, source: str, target: str, nodes: list[Node]) -> LinearMap:
    """Of nodes that end in the target those that the source leads to."""
    reached, kept = {source}, []
    for node in nodes:
        if reached & set(sources(cut.graph, node)):
            reached.add(node.name)
            kept.append(node)
    return LinearMap(cut.graph, source, target, tuple(kept), cut.shapes)
