"""Linear bounds propagated backward (CROWN: Zhang et al. 2018, arXiv:1811.00866; Xu et al. 2020, arXiv:2002.12920).

Rows of coefficients over a value are carried back node by node to the graph's input, where the threat itself gives
their least value. Bounds on inner values are refined the same way, only where a tighter box would change a relaxation.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from withstand.bounds import affine, relax
from withstand.bounds.interval import aligned
from withstand.bounds.planes import dot
from withstand.bounds.relax import Lines, Lower
from withstand.bounds.rule import Affine, Box, Elementwise, active, rule_of
from withstand.core.box import Box as BoxThreat
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node


@dataclass
class Relaxation:
    """What backward rows need of a graph and a batch x0 [B, *input_shape]: boxes of all values and lines of nodes.

    affine_only: rows stop at every node that is not affine and take its box: interval bounds of the rows.
    """

    graph: Graph
    threat: Threat
    x0: Tensor
    boxes: dict[str, Box]
    lower: Lower = "adaptive"
    affine_only: bool = False
    lines: dict[str, Lines] = field(default_factory=dict)
    constants: dict[str, Tensor | None] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of one sample of every value."""
        return {name: low.shape[1:] for name, (low, _) in self.boxes.items()}

    def line(self, node: Node, rule: Elementwise) -> Lines:
        """The lines of an element-wise node, made at first use from the box of its input."""
        if node.name not in self.lines:
            self.lines[node.name] = relax.lines(rule, self.boxes[node.inputs[0]], node.attrs, self.lower)
        return self.lines[node.name]

    def select(self, samples: Tensor) -> "Relaxation":
        """The relaxation of some samples of the batch."""
        boxes = {name: (low[samples], high[samples]) for name, (low, high) in self.boxes.items()}
        lines = {name: Lines(*(t[samples] for t in line)) for name, line in self.lines.items()}
        threat, x0 = part(self.threat, self.x0, samples), self.x0[samples]
        return Relaxation(self.graph, threat, x0, boxes, self.lower, self.affine_only, lines, self.constants)


def part(threat: Threat, x0: Tensor, samples: Tensor) -> Threat:
    """The threat of some samples of x0: a box threat may have edges of its own for every sample."""
    if not isinstance(threat, BoxThreat):
        return threat
    lower, upper = threat.box(x0)
    return replace(threat, lower=lower[samples], upper=upper[samples])


@dataclass
class Front:
    """Rows on their way back: coefficients [B, R, *shape] by value, and what has become constant [B, R]."""

    rows: dict[str, Tensor]
    constant: Tensor

    def add(self, name: str, rows: Tensor) -> None:
        self.rows[name] = self.rows[name] + rows if name in self.rows else rows

    def mirrored(self) -> "Front":
        """The rows, then their negatives."""
        both = {name: torch.cat([rows, -rows], 1) for name, rows in self.rows.items()}
        return Front(both, torch.cat([self.constant, -self.constant], 1))


def least(relaxation: Relaxation, target: str, rows: Tensor, both: bool = False) -> Tensor:
    """Sound lower bounds [B, R] of rows [B, R, *shape] over the value `target`; with `both`, [B, 2R]: those of the rows
    and those of their negatives."""
    front = Front({target: rows}, rows.new_zeros(rows.shape[:2]))
    for node in reversed(relaxation.graph.nodes):
        arrived = front.rows.pop(node.name, None)
        if arrived is None:
            continue
        rule = rule_of(relaxation.graph, node)
        if both and not isinstance(rule, Affine):
            front.add(node.name, arrived)
            front, both = front.mirrored(), False
            arrived = front.rows.pop(node.name)
        if isinstance(rule, Affine):
            through_affine(relaxation, node, rule, arrived, front)
        else:
            through(relaxation, node, rule, arrived, front)
    if both:
        front = front.mirrored()
    at_input = front.rows.get(relaxation.graph.input)
    if at_input is None:
        return front.constant
    return front.constant + relaxation.threat.lowest(relaxation.x0, at_input)


def through_affine(relaxation: Relaxation, node: Node, rule: Affine, rows: Tensor, front: Front) -> None:
    """Carry rows that arrived at an affine node to its inputs."""
    args = affine.arguments(relaxation.graph, node, relaxation.shapes)
    if node.name not in relaxation.constants:
        relaxation.constants[node.name] = affine.constant_part(rule, args, node.attrs, rows)
    start = relaxation.constants[node.name]
    if start is not None:
        front.constant = front.constant + dot(rows, start)
    for position in active(relaxation.graph, node):
        front.add(node.inputs[position], affine.transpose(rule, rows, position, args, node.attrs))


def through(relaxation: Relaxation, node: Node, rule, rows: Tensor, front: Front) -> None:
    """Carry rows that arrived at any other node to its inputs, by lines, by planes or, failing both, by its box."""
    if relaxation.affine_only or not (isinstance(rule, Elementwise) or rule.backward):
        low, high = relaxation.boxes[node.name]
        front.constant = front.constant + dot(rows.clamp(min=0), low) + dot(rows.clamp(max=0), high)
        return
    if isinstance(rule, Elementwise):
        line = relaxation.line(node, rule)
        negative = rows.clamp(max=0)
        constant = dot(negative, line.upper_offset)
        if bool((line.lower_offset != 0).any()):
            constant = constant + dot(rows - negative, line.lower_offset)
        back = torch.addcmul(rows * line.lower_slope[:, None], negative, (line.upper_slope - line.lower_slope)[:, None])
        front.add(node.inputs[0], back)
    else:
        boxes = aligned(relaxation.graph, node, relaxation.boxes)
        backs, constant = rule.backward(rows, boxes, **node.attrs)
        for position, name in enumerate(node.inputs):
            if relaxation.graph.is_constant(name):
                constant = constant + dot(backs[position], boxes[position][0])
            else:
                front.add(name, backs[position])
    front.constant = front.constant + constant
