"""Linear bounds propagated forward: each value between two affine functions of the input (Xu et al. 2020,
arXiv:2002.12920, section 3.2).

Their cost grows with the number of input coordinates and not with the number of neurons, so they suit networks of few
inputs: one pass bounds all neurons, which backward bounds do one by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds import affine, relax
from withstand.bounds.affine import Attrs
from withstand.bounds.interval import aligned, intersect, step
from withstand.bounds.linear import Front, Relaxation, least, through_affine
from withstand.bounds.planes import no_news
from withstand.bounds.relax import Lower
from withstand.bounds.rule import Affine, Box, Elementwise, Nonlinear, active, rule_of
from withstand.core.budget import check_time
from withstand.core.property import Rows
from withstand.core.shapes import flattened
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node

COPIES = 8
"""Sets of coefficients that are alive at once; measured, rounded up."""


@dataclass(frozen=True)
class Between:
    """Two affine functions of the input around a value: coefficients [B, n + 1, *shape] of the n input coordinates and,
    last, the constant. While the value is affine in the input, both are the same tensor."""

    lower: Tensor
    upper: Tensor

    def box(self, threat: Threat, x0: Tensor) -> Box:
        """Lower and upper bounds [B, *shape] of the value over the threat around x0 [B, *input_shape]."""
        low = _least(threat, x0, flattened(self.lower, 2).mT).reshape(self.lower[:, 0].shape)
        high = _least(threat, x0, -flattened(self.upper, 2).mT).neg().reshape(low.shape)
        return low, high

    def under(self, rows: Tensor) -> Tensor:
        """Affine functions [B, R, n + 1] below rows [B, R, *shape] of the value."""
        flat = flattened(rows, 2)
        return flat.clamp(min=0) @ flattened(self.lower, 2).mT + flat.clamp(max=0) @ flattened(self.upper, 2).mT


def _least(threat: Threat, x0: Tensor, weight: Tensor) -> Tensor:
    """Least values over the threat of affine functions [B, R, n + 1]: [B, R]."""
    return threat.lowest(x0, weight[:, :, :-1].reshape(*weight.shape[:2], *x0.shape[1:])) + weight[:, :, -1]


@dataclass(frozen=True)
class _Chunk:
    """Some samples: boxes of all values, and the affine functions around the values at which rows of the output arrive
    through affine maps alone."""

    by_boxes: Relaxation
    between: dict[str, Between]

    def lower(self, weight: Tensor) -> Tensor:
        """Lower bounds [b, R] of rows [b, R, *shape]: by the affine functions, or by boxes where those are tighter."""
        relaxation = self.by_boxes
        graph, front = relaxation.graph, Front({relaxation.graph.output: weight}, weight.new_zeros(weight.shape[:2]))
        for node in reversed(graph.nodes):
            if node.name in front.rows and node.name not in self.between:
                rule = rule_of(graph, node)
                assert isinstance(rule, Affine)
                through_affine(relaxation, node, rule, front.rows.pop(node.name), front)
        total = torch.stack([self.between[name].under(rows) for name, rows in front.rows.items()]).sum(0)
        by_lines = _least(relaxation.threat, relaxation.x0, total) + front.constant
        return torch.fmax(by_lines, least(relaxation, graph.output, weight))


def _met(graph: Graph) -> set[str]:
    """The values that are not affine in others and from which affine maps lead to the output, and the input."""
    reached = {graph.output}
    found = {graph.input}
    for node in reversed(graph.nodes):
        if node.name in reached:
            if isinstance(rule_of(graph, node), Affine):
                reached.update(node.inputs)
            else:
                found.add(node.name)
    return found


@dataclass(frozen=True)
class Forward:
    """Forward linear bounds of one batch, kept in chunks of samples, to be asked for as many rows as wanted."""

    chunks: list[_Chunk]

    @property
    def boxes(self) -> dict[str, Box]:
        """Lower and upper bounds [B, *shape] of every value by name."""
        boxes = [chunk.by_boxes.boxes for chunk in self.chunks]
        return {
            name: (torch.cat([b[name][0] for b in boxes]), torch.cat([b[name][1] for b in boxes])) for name in boxes[0]
        }

    def lower(self, rows: Rows) -> Tensor:
        """Sound lower bounds [B, R] of the rows over the threat."""
        sizes, found = [len(chunk.by_boxes.x0) for chunk in self.chunks], []
        for chunk, weight in zip(self.chunks, rows.weight.split(sizes), strict=True):
            graph = chunk.by_boxes.graph
            found.append(chunk.lower(weight.reshape(*weight.shape[:2], *graph.output_shape)))
        return no_news(torch.cat(found) + rows.offset)


def forward(graph: Graph, threat: Threat, x0: Tensor, lower: Lower = "adaptive", memory_mb: float = 1024) -> Forward:
    """Forward linear bounds through the graph over the threat around x0 [B, *input_shape], each value's box intersected
    with interval bounds.

    lower: slope of an unstable ReLU's lower line. memory_mb: samples are processed in chunks of about this size.
    Raises InputError when an operator has no rule.
    """
    size = max(value.numel() for value in graph.trace(x0[:1]).values()) * (x0[0].numel() + 1)
    limit = max(1, int(memory_mb * 2**20 / (COPIES * size * x0.element_size())))
    chunks = []
    for samples in torch.arange(len(x0), device=x0.device).split(limit):
        chunks.append(_propagate(graph, threat.pick(samples, x0), x0[samples], lower))
    return Forward(chunks)


def _propagate(graph: Graph, threat: Threat, x0: Tensor, lower: Lower) -> _Chunk:
    boxes = {graph.input: threat.box(x0)}
    values = {graph.input: _start(x0)}
    for node in graph.nodes:
        check_time()
        rule = rule_of(graph, node)
        by_box = step(graph, node, boxes)
        if isinstance(rule, Affine):
            made = _affine(graph, node, rule, values)
        elif isinstance(rule, Elementwise):
            made = _lines(rule, node.attrs, values[node.inputs[0]], boxes[node.inputs[0]], lower)
        else:
            made = _planes(graph, node, rule, values, boxes, by_box)
        values[node.name] = made
        boxes[node.name] = intersect(by_box, made.box(threat, x0))
    met = {name: values[name] for name in _met(graph)}
    return _Chunk(Relaxation(graph, threat, x0, boxes, affine_only=True), met)


def _start(x0: Tensor) -> Between:
    """The input is itself."""
    size = x0[0].numel()
    unit = torch.eye(size + 1, size, dtype=x0.dtype, device=x0.device).reshape(1, size + 1, *x0.shape[1:])
    unit = unit.expand(len(x0), *unit.shape[1:])
    return Between(unit, unit)


def _affine(graph: Graph, node: Node, rule: Affine, values: Mapping[str, Between]) -> Between:
    shapes = {name: value.lower.shape[2:] for name, value in values.items()}
    args = affine.arguments(graph, node, shapes)
    lowers, uppers = [], []
    exact = all(values[node.inputs[i]].lower is values[node.inputs[i]].upper for i in active(graph, node))
    for position in active(graph, node):
        value = values[node.inputs[position]]
        for found, ends in ((lowers, (value.lower, value.upper)), (uppers, (value.upper, value.lower))):
            if found is lowers or not exact:
                found.append(_mapped(rule, *ends, position, args, node.attrs))
    start = affine.constant_part(rule, args, node.attrs, lowers[0])
    made = [torch.stack(parts).sum(0) if len(parts) > 1 else parts[0] for parts in (lowers, uppers) if parts]
    if start is not None:
        made = [torch.cat([m[:, :-1], m[:, -1:] + start], 1) for m in made]
    return Between(made[0], made[-1])


def _mapped(rule: Affine, near: Tensor, far: Tensor, position: int, args: list, attrs: Attrs) -> Tensor:
    """The positive part of the linear map on coefficients `near` and its negative part on `far`, both [B, n, *in]."""
    folded = [end.flatten(0, 1) for end in (near, far)]
    if near is far:
        image = affine.forward(rule, folded[0], position, args, attrs)
    elif not rule.signed:
        image = affine.forward(rule, folded[position in rule.falling], position, args, attrs)
    else:
        middle, half = (folded[0] + folded[1]) / 2, (folded[0] - folded[1]) / 2
        image = affine.forward(rule, middle, position, args, attrs)
        image = image + affine.absolute(rule, half, position, args, attrs)
    return image.reshape(*near.shape[:2], *image.shape[1:])


def _lines(rule: Elementwise, attrs: Attrs, value: Between, box: Box, lower: Lower) -> Between:
    """The function's lines with the value's bounds put in, each on the side its slope asks for."""
    line = relax.lines(rule, box, attrs, lower)
    made = []
    for slope, offset, near, far in (
        (line.lower_slope, line.lower_offset, value.lower, value.upper),
        (line.upper_slope, line.upper_offset, value.upper, value.lower),
    ):
        slope = slope[:, None]
        image = slope * near if near is far else slope.clamp(min=0) * near + slope.clamp(max=0) * far
        made.append(_moved(image, offset))
    return Between(*made)


def _moved(coefficients: Tensor, offset: Tensor) -> Tensor:
    """The functions with a constant [B, *shape] added, the same where it is infinite: nothing is known there but it."""
    constant = torch.where(offset.isfinite(), coefficients[:, -1] + offset, offset)
    return torch.cat([coefficients[:, :-1], constant[:, None]], 1)


def _planes(
    graph: Graph, node: Node, rule: Nonlinear, values: Mapping[str, Between], boxes: Mapping[str, Box], image: Box
) -> Between:
    """The map's planes with the inputs' bounds put in; the box of its value where there are none."""
    size = next(iter(values.values())).lower.shape[1]
    made = [end.new_zeros(len(end), size, *end.shape[1:]) for end in image]
    offsets = list(image)
    if rule.planes is not None:
        planes = rule.planes(*aligned(graph, node, boxes), **node.attrs)
        known = ((planes.lower, planes.low), (planes.upper, planes.high))
        for side, (coefficients, constant) in enumerate(known):
            offsets[side] = torch.where(constant.isfinite(), constant, image[side])
            for position, name in enumerate(node.inputs):
                if graph.is_constant(name):
                    fixed = aligned(graph, node, boxes)[position][0][:, None]
                    offsets[side] = offsets[side] + planes.pattern.forward(coefficients, position, fixed).squeeze(1)
                else:
                    near, far = (values[name].lower, values[name].upper)[:: 1 - 2 * side]
                    for bounded, keep in ((near, {"min": 0.0}), (far, {"max": 0.0})):
                        signed = tuple(c.clamp(**keep) for c in coefficients)
                        made[side] = made[side] + planes.pattern.forward(signed, position, bounded)
    return Between(*(_moved(image, offset) for image, offset in zip(made, offsets, strict=True)))
