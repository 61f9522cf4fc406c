"""Tighter boxes on inner values by backward rows, only for elements whose box does not already decide a relaxation."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from withstand.bounds import relax, windows
from withstand.bounds.interval import intersect, step
from withstand.bounds.linear import Relaxation, least
from withstand.bounds.relax import Lower
from withstand.bounds.rule import Affine, Box, Elementwise, Rule, rule_of
from withstand.core.balls import Linf
from withstand.core.box import Box as BoxThreat
from withstand.core.shapes import flattened
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node

COPIES = 6
"""Tensors of a row's size that are alive at once on the way back; measured, rounded up."""

PIECE_MB = 24
"""Rows are processed in pieces of about this size, which caches hold."""

SMALL = 2**20
"""Bytes of rows that are not worth a second pass."""

_SCALED = frozenset({"reshape", "transpose", "slice", "mul", "div", "add", "sub", "neg"})


def crown(
    graph: Graph,
    threat: Threat,
    x0: Tensor,
    lower: Lower = "adaptive",
    memory_mb: float = 1024,
    known: Mapping[str, Box] | None = None,
) -> Relaxation:
    """Boxes and lines of linear backward bounds over the threat around x0 [B, *input_shape].

    lower: slope of an unstable ReLU's lower line. memory_mb: rows are processed in chunks of about this size. known:
    boxes of values that hold over the threat already, such as those of a larger radius: neurons that they decide cost
    no row.
    Raises InputError when an operator has no rule.
    """
    start = Relaxation(graph, threat, x0, {graph.input: threat.box(x0)}, lower)
    return _relaxation(graph, start, memory_mb, known or {})


def ibp(graph: Graph, threat: Threat, x0: Tensor, memory_mb: float = 1024) -> Relaxation:
    """Interval boxes over the threat around x0 [B, *input_shape]; values that depend on the input by affine maps alone
    are bounded by the threat's own support function, which for l1 and l2 is the dual norm.

    Raises InputError when an operator has no rule.
    """
    start = Relaxation(graph, threat, x0, {graph.input: threat.box(x0)}, affine_only=True)
    return _relaxation(graph, start, memory_mb)


def _relaxation(
    graph: Graph, relaxation: Relaxation, memory_mb: float, known: Mapping[str, Box] = MappingProxyType({})
) -> Relaxation:
    done = _decided(graph, relaxation.threat)
    if relaxation.affine_only:
        done |= {node.name for node in graph.nodes} - affine_prefix(graph)
    for node in graph.nodes:
        rule = rule_of(graph, node)
        if not isinstance(rule, Affine):
            for name in dict.fromkeys(node.inputs):
                if name not in done and not graph.is_constant(name):
                    if isinstance(rule, Elementwise) and rule.kinks is not None:
                        _decide(relaxation, node, rule, name, memory_mb)
                    else:
                        refine(relaxation, name, _wanted(rule, node, relaxation.boxes[name]), memory_mb)
                    done.add(name)
            if isinstance(rule, Elementwise) and not relaxation.affine_only:
                relaxation.line(node, rule)
        box = step(graph, node, relaxation.boxes)
        relaxation.boxes[node.name] = intersect(box, known[node.name]) if node.name in known else box
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
    return max(1, int(memory_mb * 2**20 / (COPIES * _widest(boxes))))


def _widest(boxes: Mapping[str, Box]) -> int:
    """Bytes of the largest value of one sample."""
    return max(low[0].numel() * low.element_size() for low, _ in boxes.values())


def refine(relaxation: Relaxation, name: str, wanted: Tensor, memory_mb: float) -> None:
    """Intersect the box of the value `name` with backward bounds of its `wanted` elements, bool [B, *shape]."""
    _tighten(relaxation, name, wanted, wanted, memory_mb)


def _decide(relaxation: Relaxation, node: Node, rule: Elementwise, name: str, memory_mb: float) -> None:
    """Refine the input of a function made of straight pieces on the side that is more likely to prove a neuron to be
    linear, and on the other one only where that did not: a neuron proved stable costs nothing more."""
    low, high = relaxation.boxes[name]
    wanted = relax.gap(rule, (low, high), node.attrs)
    if int(wanted.sum()) * _widest(relaxation.boxes) < SMALL:
        _tighten(relaxation, name, wanted, wanted, memory_mb)
        return
    rising = low + high > 0
    _tighten(relaxation, name, wanted & rising, wanted & ~rising, memory_mb)
    left = wanted & relax.gap(rule, relaxation.boxes[name], node.attrs)
    _tighten(relaxation, name, left & ~rising, left & rising, memory_mb)


def _tighten(relaxation: Relaxation, name: str, below: Tensor, above: Tensor, memory_mb: float) -> None:
    """Intersect the box of a value with backward bounds: lower ones of the elements `below`, upper ones of `above`."""
    low, high = relaxation.boxes[name]
    wanted = torch.cat([flattened(below), flattened(above)], 1)
    bounds = torch.cat([flattened(low), -flattened(high)], 1)
    nodes = windows.chain(relaxation.graph, name, relaxation.shapes)
    if nodes and not relaxation.affine_only:
        sample, index = wanted.nonzero().T
        if len(sample):
            found = windows.least(relaxation, nodes, sample, *_signed(index, low[0].numel()))
            bounds = bounds.index_put((sample, index), torch.fmax(bounds[sample, index], found))
    else:
        for samples, index in chunks(wanted, row_limit(relaxation.boxes, min(memory_mb, PIECE_MB))):
            found = _whole_rows(relaxation.select(samples), name, *_signed(index, low[0].numel()))
            place = (samples[:, None].expand_as(index), index)
            bounds = bounds.index_put(place, torch.fmax(bounds[place], found))
    floor, ceiling = bounds.chunk(2, 1)
    relaxation.boxes[name] = intersect((low, high), (floor.reshape(low.shape), -ceiling.reshape(low.shape)))


def _signed(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Elements and signs: numbers from `size` on stand for the negatives of elements."""
    return index % size, 1 - 2 * (index // size)


def _whole_rows(relaxation: Relaxation, name: str, index: Tensor, sign: Tensor) -> Tensor:
    """Lower bounds [b, R] of sign * the elements `index` [b, R] of a value, by rows over whole values."""
    low = relaxation.boxes[name][0]
    sign = sign.to(low.dtype)
    made = next((node for node in relaxation.graph.nodes if node.name == name), None)
    if (
        made is not None
        and made.op == "linear"
        and low.dim() == 2
        and isinstance(rule_of(relaxation.graph, made), Affine)
    ):
        weight, *bias = (relaxation.graph.constant(i) for i in made.inputs[1:])
        found = least(relaxation, made.inputs[0], weight[index] * sign[:, :, None])
        return found + bias[0][index] * sign if bias else found
    rows = low.new_zeros(*index.shape, low[0].numel()).scatter_(2, index[:, :, None], sign[:, :, None])
    return least(relaxation, name, rows.reshape(*index.shape, *low.shape[1:]))


def chunks(wanted: Tensor, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples [b] and elements [b, R] that cover the wanted ones, bool [B, N], with b * R <= limit.

    Samples of like counts go together; a sample with fewer wanted elements than its chunk repeats its first.
    """
    counts = wanted.sum(1)
    order = counts.argsort(descending=True, stable=True)
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
