"""Tighter boxes on inner values by backward rows, only for elements whose box does not already decide a relaxation."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from withstand.bounds import relax, windows
from withstand.bounds.interval import intersect, step
from withstand.bounds.linear import Relaxation, least
from withstand.bounds.relax import Lower
from withstand.bounds.rule import Affine, Box, Elementwise, Rule, rule_of
from withstand.core.balls import Linf
from withstand.core.box import Box as BoxThreat
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node

COPIES = 6
"""Tensors of a row's size that are alive at once on the way back; measured, rounded up."""

Place = tuple[Tensor, ...]
Pair = tuple[Tensor, ...]

_SCALED = frozenset({"reshape", "transpose", "slice", "mul", "div", "add", "sub", "neg"})


def crown(graph: Graph, threat: Threat, x0: Tensor, lower: Lower = "adaptive", memory_mb: float = 1024) -> Relaxation:
    """Boxes and lines of linear backward bounds over the threat around x0 [B, *input_shape].

    lower: slope of an unstable ReLU's lower line. memory_mb: rows are processed in chunks of about this size.
    Raises InputError when an operator has no rule.
    """
    return _relaxation(graph, Relaxation(graph, threat, x0, {graph.input: threat.box(x0)}, lower), memory_mb)


def ibp(graph: Graph, threat: Threat, x0: Tensor, memory_mb: float = 1024) -> Relaxation:
    """Interval boxes over the threat around x0 [B, *input_shape]; values that depend on the input by affine maps alone
    are bounded by the threat's own support function, which for l1 and l2 is the dual norm.

    Raises InputError when an operator has no rule.
    """
    start = Relaxation(graph, threat, x0, {graph.input: threat.box(x0)}, affine_only=True)
    return _relaxation(graph, start, memory_mb)


def _relaxation(graph: Graph, relaxation: Relaxation, memory_mb: float) -> Relaxation:
    done = _decided(graph, relaxation.threat)
    if relaxation.affine_only:
        done |= {node.name for node in graph.nodes} - affine_prefix(graph)
    for node in graph.nodes:
        rule = rule_of(graph, node)
        if not isinstance(rule, Affine):
            for name in dict.fromkeys(node.inputs):
                if name not in done and not graph.is_constant(name):
                    refine(relaxation, name, _wanted(rule, node, relaxation.boxes[name]), memory_mb)
                    done.add(name)
        relaxation.boxes[node.name] = step(graph, node, relaxation.boxes)
    return relaxation


def _wanted(rule: Rule, node: Node, box: Box) -> Tensor:
    """Elements [B, *shape] for which a tighter box would help the node."""
    return relax.gap(rule, box, node.attrs) if isinstance(rule, Elementwise) else box[0] < box[1]


def affine_prefix(graph: Graph) -> set[str]:
    """Names of the values that are affine in the input."""
    found = {graph.input}
    for node in graph.nodes:
        reads = {name for name in node.inputs if not graph.is_constant(name)}
        if isinstance(rule_of(graph, node), Affine) and reads <= found:
            found.add(node.name)
    return found


def _decided(graph: Graph, threat: Threat) -> set[str]:
    """Values whose box cannot be improved by rows: element-wise images, and for boxes the first sum over inputs."""
    scaled, found = {graph.input}, {graph.input}
    boxed = isinstance(threat, Linf | BoxThreat)
    for node in graph.nodes:
        rule = rule_of(graph, node)
        reads = [name for name in node.inputs if not graph.is_constant(name)]
        if isinstance(rule, Elementwise):
            found.add(node.name)
        elif isinstance(rule, Affine) and len(reads) == 1 and reads[0] in scaled:
            if boxed:
                found.add(node.name)
            if node.op in _SCALED:
                scaled.add(node.name)
    return found


def row_limit(boxes: Mapping[str, Box], memory_mb: float) -> int:
    """How many rows fit the memory on their way back through values of these sizes."""
    widest = max(low[0].numel() * low.element_size() for low, _ in boxes.values())
    return max(1, int(memory_mb * 2**20 / (COPIES * widest)))


def refine(relaxation: Relaxation, name: str, wanted: Tensor, memory_mb: float) -> None:
    """Intersect the box of the value `name` with backward bounds of its `wanted` elements, bool [B, *shape]."""
    low, high = relaxation.boxes[name]
    flat, nodes = wanted.flatten(1), windows.chain(relaxation.graph, name, relaxation.shapes)
    new_low, new_high = low.flatten(1), high.flatten(1)
    if nodes and not relaxation.affine_only:
        place = tuple(flat.nonzero().T)
        found = [(place, windows.least(relaxation, nodes, *place))] if len(place[0]) else []
    else:
        found = _whole_rows(relaxation, name, flat, max(1, row_limit(relaxation.boxes, memory_mb) // 2))
    for place, (floor, ceiling) in found:
        box = intersect((new_low[place], new_high[place]), (floor, -ceiling))
        new_low, new_high = new_low.index_put(place, box[0]), new_high.index_put(place, box[1])
    relaxation.boxes[name] = (new_low.reshape(low.shape), new_high.reshape(low.shape))


def _whole_rows(relaxation: Relaxation, name: str, wanted: Tensor, limit: int) -> Iterator[tuple[Place, Pair]]:
    """Backward bounds of the wanted elements and their negatives, by rows over whole values, chunk by chunk."""
    low = relaxation.boxes[name][0]
    shape, size = low.shape[1:], wanted.shape[1]
    for samples, index in chunks(wanted, limit):
        rows = low.new_zeros(*index.shape, size).scatter_(2, index[:, :, None], 1.0)
        found = least(relaxation.select(samples), name, rows.reshape(*index.shape, *shape), both=True)
        yield (samples[:, None].expand_as(index), index), tuple(found.chunk(2, 1))


def chunks(wanted: Tensor, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples [b] and elements [b, R] that cover the wanted ones, bool [B, N], with b * R <= limit.

    Samples of like counts go together; a sample with fewer wanted elements than its chunk repeats its first.
    """
    counts = wanted.sum(1)
    order = counts.argsort(descending=True)
    sizes = counts[order].tolist()
    first = 0
    while first < len(sizes) and sizes[first] > 0:
        rows = sizes[first]
        last = min(len(sizes), first + max(1, limit // rows))
        samples = order[first:last]
        index = wanted[samples].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :rows]
        index = torch.where(wanted[samples].gather(1, index), index, index[:, :1])
        for piece in index.split(limit, 1):
            yield samples, piece
        first = last
