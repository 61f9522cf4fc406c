"""Backward bounds of single elements of a 2-d convolution: rows that live on their receptive field alone.

An element of a convolution sees a small window of every earlier map. Its rows are kept as [N, height, width, channels]
with the window's origin, instead of over whole maps.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from withstand.bounds.linear import Relaxation
from withstand.bounds.rule import Elementwise, rule_of
from withstand.core.box import Box as BoxThreat
from withstand.core.budget import check_time
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph, Node

PIECE_MB = 8
"""Rows are processed in pieces of about this size, which caches hold."""


def chain(graph: Graph, target: str, shapes: dict[str, torch.Size]) -> list[Node] | None:
    """The nodes from `target` back to the input where all are 2-d convolutions and element-wise functions, the first a
    convolution, and windows stay smaller than the maps; else None."""
    by_name = {node.name: node for node in graph.nodes}
    found, name, extent = [], target, 1
    while name != graph.input:
        node = by_name[name]
        if _plain(graph, node):
            kernel = graph.constant(node.inputs[1]).shape[2:]
            extent = (extent - 1) * max(node.attrs["stride"]) + max(kernel)
            if 2 * extent**2 > shapes[node.inputs[0]][1:].numel():
                return None
        elif not found or not isinstance(rule_of(graph, node), Elementwise):
            return None
        found.append(node)
        name = node.inputs[0]
    return found or None


def _plain(graph: Graph, node: Node) -> bool:
    """A 2-d convolution with constant weights, without dilation and groups."""
    if node.op != "conv" or graph.is_constant(node.inputs[0]) or not graph.is_constant(node.inputs[1]):
        return False
    flat = graph.constant(node.inputs[1]).dim() == 4
    return flat and set(node.attrs["dilation"]) == {1} and node.attrs.get("groups", 1) == 1


@dataclass
class _Windows:
    rows: Tensor
    constant: Tensor
    sample: Tensor
    top: Tensor
    left: Tensor

    def places(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Positions [N, h, w] in maps of this size laid end to end, and which of them are inside."""
        y = self.top[:, None, None] + torch.arange(self.rows.shape[1], device=self.top.device)[:, None]
        x = self.left[:, None, None] + torch.arange(self.rows.shape[2], device=self.top.device)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        return (self.sample[:, None, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1), inside

    def masked(self, height: int, width: int) -> "_Windows":
        """Without the coefficients of padding."""
        return replace(self, rows=self.rows * self.places(height, width)[1][..., None].to(self.rows.dtype))


def _table(maps: Tensor) -> Tensor:
    """Maps [B, C, H, W] as [B * H * W, C]."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def least(relaxation: Relaxation, nodes: list[Node], sample: Tensor, index: Tensor, sign: Tensor) -> Tensor:
    """Lower bounds [N] of sign * the elements `index` of the first node's value in the samples, all [N]."""
    widest = max(relaxation.boxes[node.inputs[0]][0].shape[1] for node in nodes)
    size = (2 * _reach(relaxation.graph, nodes)) ** 2 * widest
    piece = max(64, PIECE_MB * 2**20 // (4 * size))
    parts = zip(*(t.split(piece) for t in (sample, index, sign)), strict=True)
    return torch.cat([_piece(relaxation, nodes, *part) for part in parts])


def _reach(graph: Graph, nodes: list[Node]) -> int:
    """The edge of the window before the last convolution."""
    return max(graph.constant(node.inputs[1]).shape[2] for node in nodes if node.op == "conv")


def _piece(relaxation: Relaxation, nodes: list[Node], sample: Tensor, index: Tensor, sign: Tensor) -> Tensor:
    found = _start(relaxation, nodes[0], sample, index, sign)
    for node in nodes[1:]:
        check_time()
        found = _conv(relaxation, node, found) if node.op == "conv" else _bend(relaxation, node, found)
    return (found.constant + _concrete(relaxation, found)).nan_to_num(-torch.inf, torch.inf, -torch.inf)


def _start(relaxation: Relaxation, node: Node, sample: Tensor, index: Tensor, sign: Tensor) -> _Windows:
    graph = relaxation.graph
    weight = graph.constant(node.inputs[1])
    sign = sign.to(weight.dtype)
    height, width = relaxation.boxes[node.name][0].shape[2:]
    channel, y, x = index // (height * width), index // width % height, index % width
    rows = weight.permute(0, 2, 3, 1)[channel] * sign[:, None, None, None]
    constant = torch.zeros_like(sign)
    if len(node.inputs) == 3:
        constant = graph.constant(node.inputs[2])[channel] * sign
    (down, right), (above, before) = node.attrs["stride"], node.attrs["padding"]
    found = _Windows(rows, constant, sample, y * down - above, x * right - before)
    return found.masked(*relaxation.boxes[node.inputs[0]][0].shape[2:])


def _bend(relaxation: Relaxation, node: Node, at: _Windows) -> _Windows:
    """Through an element-wise function by its lines."""
    rule = rule_of(relaxation.graph, node)
    assert isinstance(rule, Elementwise)
    line = relaxation.line(node, rule)
    place, _ = at.places(*line.lower_slope.shape[2:])
    rows = at.rows
    negative = rows.clamp(max=0)
    constant = at.constant + (negative * _table(line.upper_offset)[place]).sum((1, 2, 3))
    if bool((line.lower_offset != 0).any()):
        constant = constant + ((rows - negative) * _table(line.lower_offset)[place]).sum((1, 2, 3))
    slope = _table(line.lower_slope)[place]
    more = _table(line.upper_slope - line.lower_slope)[place]
    return replace(at, rows=torch.addcmul(rows * slope, negative, more), constant=constant)


def _conv(relaxation: Relaxation, node: Node, at: _Windows) -> _Windows:
    """Through a convolution: its transpose on the window, which grows."""
    graph, (count, high, wide, channels) = relaxation.graph, at.rows.shape
    weight = graph.constant(node.inputs[1])
    constant = at.constant
    if len(node.inputs) == 3:
        constant = constant + (at.rows * graph.constant(node.inputs[2])).sum((1, 2, 3))
    (down, right), (above, before) = node.attrs["stride"], node.attrs["padding"]
    tall, broad = weight.shape[2:]
    parts = at.rows.reshape(-1, channels) @ weight.permute(0, 2, 3, 1).reshape(channels, -1)
    parts = parts.reshape(count, high, wide, tall, broad, -1)
    rows = parts.new_zeros(count, (high - 1) * down + tall, (wide - 1) * right + broad, parts.shape[-1])
    for i in range(high):
        for j in range(wide):
            rows[:, i * down : i * down + tall, j * right : j * right + broad] += parts[:, i, j]
    found = _Windows(rows, constant, at.sample, at.top * down - above, at.left * right - before)
    return found.masked(*relaxation.boxes[node.inputs[0]][0].shape[2:])


def _concrete(relaxation: Relaxation, at: _Windows) -> Tensor:
    """Least value over the threat of rows on windows of the input: [N]."""
    threat, x0 = relaxation.threat, relaxation.x0
    place, _ = at.places(*x0.shape[2:])
    if isinstance(threat, BoxThreat):
        lower, upper = (flattened(_table(edge)[place]) for edge in threat.box(x0))
        threat = replace(threat, lower=lower, upper=upper)
    else:
        threat = threat.pick(at.sample, x0)
    return threat.lowest_in_windows(_table(x0)[place], at.rows[:, None]).squeeze(1)
