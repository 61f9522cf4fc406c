"""Zonotope bounds (DeepZ: Singh et al. 2018; with a box of leftover errors as in Mirman et al. 2018).

A value is centre + inputs . (x - x0) + errors . e + radius * e', with x in the threat, every e in [-1, 1], and e' fresh
in every element. Because the input's own coefficients are kept, the threat gives their range: the dual norm for l1, l2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from withstand.bounds import affine, relax
from withstand.bounds.affine import Attrs
from withstand.bounds.interval import intersect, step
from withstand.bounds.linear import part
from withstand.bounds.planes import no_news
from withstand.bounds.rule import Affine, Box, Elementwise, active, rule_of
from withstand.core.property import Rows
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node

COPIES = 4
"""Sets of coefficients that are alive at once; measured, rounded up."""


@dataclass(frozen=True)
class Zonotope:
    """centre [B, *shape], inputs [B, N, *shape] of the N input coordinates (or none), errors [B, G, *shape], radius."""

    centre: Tensor
    inputs: Tensor
    errors: Tensor
    radius: Tensor

    def lowest(self, threat: Threat, x0: Tensor, rows: Tensor) -> Tensor:
        """Lower bounds [B, R] of rows [B, R, *shape]."""
        flat = rows.flatten(2)
        found = torch.einsum("brn,bn->br", flat, self.centre.flatten(1))
        found = found - torch.einsum("brn,bn->br", flat.abs(), self.radius.flatten(1))
        found = found - (flat @ self.errors.flatten(2).mT).abs().sum(2)
        return found + self._lean(threat, x0, flat @ self.inputs.flatten(2).mT)

    def box(self, threat: Threat, x0: Tensor) -> Box:
        """Lower and upper bounds of every element."""
        reach = (self.radius + self.errors.abs().sum(1)).flatten(1)
        weight = self.inputs.flatten(2).mT
        low = self.centre.flatten(1) - reach + self._lean(threat, x0, weight)
        high = self.centre.flatten(1) + reach - self._lean(threat, x0, -weight)
        return low.reshape(self.centre.shape), high.reshape(self.centre.shape)

    def _lean(self, threat: Threat, x0: Tensor, weight: Tensor) -> Tensor:
        """Least value of weight . (x - x0) over the threat, weight [B, R, N]: [B, R]."""
        if not weight.shape[2]:
            return weight.new_zeros(weight.shape[:2])
        least = threat.lowest(x0, weight.reshape(*weight.shape[:2], *x0.shape[1:]))
        return least - torch.einsum("brn,bn->br", weight, x0.flatten(1))

    def padded(self, count: int) -> Tensor:
        """The errors, with zeros for those up to `count` that this value does not know."""
        missing = count - self.errors.shape[1]
        return F.pad(self.errors, [0, 0] * (self.errors.dim() - 2) + [0, missing]) if missing else self.errors


class _Errors:
    """How many error terms exist, and how many more the memory holds."""

    def __init__(self, room: int) -> None:
        self.count, self.room = 0, room

    def add(self, value: Zonotope, half: Tensor) -> Zonotope:
        """`value` with a fresh error of size `half` in every element: terms of their own for the largest, a box for the
        rest."""
        flat = half.flatten(1)
        known = value.padded(self.count)
        new = min(self.room, int((flat > 0).sum(1).max()))
        size, place = flat.topk(new, dim=1)
        added = flat.new_zeros(len(flat), new, flat.shape[1]).scatter_(2, place[:, :, None], size[:, :, None])
        rest = flat.scatter(1, place, 0.0).reshape(half.shape)
        self.count, self.room = self.count + new, self.room - new
        errors = torch.cat([known, added.reshape(len(flat), new, *half.shape[1:])], 1)
        return replace(value, errors=errors, radius=value.radius + rest)


def zonotope(graph: Graph, threat: Threat, x0: Tensor, memory_mb: float = 1024) -> "Zonotopes":
    """Zonotopes through the graph over the threat around x0 [B, *input_shape].

    memory_mb: samples are processed in chunks of about this size. Where even one sample's error terms exceed it, the
    smallest become boxes, and an input with too many coordinates enters as a box. Operators that are neither affine nor
    element-wise give boxes with fresh errors.
    Raises InputError when an operator has no rule.
    """
    sizes = {name: value.numel() for name, value in graph.trace(x0[:1]).items()}
    limit = int(memory_mb * 2**20 / (COPIES * max(sizes.values()) * x0.element_size()))
    makers = [node.name for node in graph.nodes if not isinstance(rule_of(graph, node), Affine)]
    terms = max(1, min(limit, sizes[graph.input] + sum(sizes[name] for name in makers)))
    chunks = []
    for samples in torch.arange(len(x0), device=x0.device).split(max(1, limit // terms)):
        chunks.append(_propagate(graph, part(threat, x0, samples), x0[samples], terms))
    return Zonotopes(chunks)


@dataclass(frozen=True)
class _Chunk:
    threat: Threat
    x0: Tensor
    boxes: dict[str, Box]
    output: Zonotope


@dataclass(frozen=True)
class Zonotopes:
    """Zonotopes of a graph's output and boxes of all its values, kept in chunks of samples."""

    chunks: list[_Chunk]

    @property
    def boxes(self) -> dict[str, Box]:
        """Lower and upper bounds [B, *shape] of every value by name."""
        found = {}
        for name in self.chunks[0].boxes:
            low, high = (torch.cat([chunk.boxes[name][end] for chunk in self.chunks]) for end in (0, 1))
            found[name] = (low, high)
        return found

    def lower(self, rows: Rows) -> Tensor:
        """Sound lower bounds [B, R] of the rows over the threat."""
        sizes = [len(chunk.x0) for chunk in self.chunks]
        found = []
        for chunk, weight in zip(self.chunks, rows.weight.split(sizes), strict=True):
            shaped = weight.reshape(*weight.shape[:2], *chunk.output.centre.shape[1:])
            found.append(chunk.output.lowest(chunk.threat, chunk.x0, shaped))
        return no_news(torch.cat(found) + rows.offset)


def _propagate(graph: Graph, threat: Threat, x0: Tensor, terms: int) -> _Chunk:
    boxes = {graph.input: threat.box(x0)}
    start = _start(boxes[graph.input], x0, terms)
    values, errors = {graph.input: start}, _Errors(terms - start.inputs.shape[1])
    for node in graph.nodes:
        rule = rule_of(graph, node)
        by_box = step(graph, node, boxes)
        if isinstance(rule, Affine):
            made = _affine(graph, node, rule, values, errors)
        elif isinstance(rule, Elementwise):
            made = _lines(rule, node.attrs, values[node.inputs[0]], boxes[node.inputs[0]], errors)
        else:
            made = _boxed(by_box, start.inputs.shape[1], errors)
        values[node.name] = made
        boxes[node.name] = intersect(by_box, made.box(threat, x0))
    return _Chunk(threat, x0, boxes, values[graph.output])


def _start(box: Box, x0: Tensor, terms: int) -> Zonotope:
    """The input as itself, or as a box where it has more coordinates than there may be terms."""
    none, size = x0.new_zeros(len(x0), 0, *x0.shape[1:]), x0[0].numel()
    if size > terms or not bool(torch.stack(box).isfinite().all()):
        return Zonotope(box[0] / 2 + box[1] / 2, none, none, box[1] / 2 - box[0] / 2)
    unit = torch.eye(size, dtype=x0.dtype, device=x0.device).reshape(1, size, *x0.shape[1:])
    return Zonotope(x0, unit.expand(len(x0), *unit.shape[1:]), none, torch.zeros_like(x0))


def _affine(graph: Graph, node: Node, rule: Affine, values: Mapping[str, Zonotope], errors: _Errors) -> Zonotope:
    shapes = {name: value.centre.shape[1:] for name, value in values.items()}
    args = affine.arguments(graph, node, shapes)
    centre = graph.step(node, {name: value.centre for name, value in values.items()})
    radius, parts, extra = torch.zeros_like(centre), [], []
    for position in active(graph, node):
        value = values[node.inputs[position]]
        radius = radius + affine.radius(rule, value.radius, position, args, node.attrs)
        for found, terms in ((parts, value.inputs), (extra, value.padded(errors.count))):
            shape = (*terms.shape[:2], *centre.shape[1:])
            if terms.shape[1]:
                found.append(affine.forward(rule, terms.flatten(0, 1), position, args, node.attrs).reshape(shape))
            else:
                found.append(centre.new_zeros(shape))
    return Zonotope(centre, torch.stack(parts).sum(0), torch.stack(extra).sum(0), radius)


def _lines(rule: Elementwise, attrs: Attrs, value: Zonotope, box: Box, errors: _Errors) -> Zonotope:
    """Every element between two parallel lines; where there are none that are finite, its box."""
    slope, low, high = relax.parallel(rule, box, attrs)
    slope, middle = torch.where((high - low).isfinite(), slope, 0.0), low / 2 + high / 2
    half, middle = (high / 2 - low / 2).nan_to_num(torch.inf, torch.inf), middle.nan_to_num(0.0, 0.0, 0.0)
    scaled = Zonotope(
        slope * value.centre + middle,
        slope[:, None] * value.inputs,
        slope[:, None] * value.errors,
        slope.abs() * value.radius,
    )
    return errors.add(scaled, half)


def _boxed(box: Box, inputs: int, errors: _Errors) -> Zonotope:
    """A box with fresh errors in every element."""
    low, high = box
    none = low.new_zeros(len(low), 0, *low.shape[1:])
    zero = low.new_zeros(()).expand(len(low), inputs, *low.shape[1:])
    centre = (low / 2 + high / 2).nan_to_num(0.0, 0.0, 0.0)
    return errors.add(
        Zonotope(centre, zero, none, torch.zeros_like(low)), (high / 2 - low / 2).nan_to_num(torch.inf, torch.inf)
    )
