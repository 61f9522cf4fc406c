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
from withstand.core.budget import check_time
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
    values: dict[str, list[affine.Value]] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of one sample of every value."""
        return {name: low.shape[1:] for name, (low, _) in self.boxes.items()}

    def line(self, node: Node, rule: Elementwise) -> Lines:
        """The lines of an element-wise node, made at first use from the box of its input."""
        if node.name not in self.lines:
            self.lines[node.name] = relax.lines(rule, self.boxes[node.inputs[0]], node.attrs, self.lower)
        return self.lines[node.name]

    def arguments(self, node: Node) -> list[affine.Value]:
        """An affine node's constants, and the shapes of its other inputs."""
        if node.name not in self.values:
            self.values[node.name] = affine.arguments(self.graph, node, self.shapes)
        return self.values[node.name]

    def select(self, samples: Tensor) -> "Relaxation":
        """The relaxation of some samples of the batch."""
        if len(samples) == len(self.x0) and torch.equal(samples, torch.arange(len(samples), device=samples.device)):
            return self
        boxes = {name: (low[samples], high[samples]) for name, (low, high) in self.boxes.items()}
        lines = {name: Lines(*(t[samples] for t in line)) for name, line in self.lines.items()}
        threat = self.threat.pick(samples, self.x0)
        return replace(self, threat=threat, x0=self.x0[samples], boxes=boxes, lines=lines)


@dataclass
class Front:
    """Rows on their way back: coefficients [B, R, *shape] by value, and what has become constant [B, R]."""

    rows: dict[str, Tensor]
    constant: Tensor

    def add(self, name: str, rows: Tensor) -> None:
        self.rows[name] = self.rows[name] + rows if name in self.rows else rows


def least(relaxation: Relaxation, target: str, rows: Tensor) -> Tensor:
    """Sound lower bounds [B, R] of rows [B, R, *shape] over the value `target`."""
    at_input, constant = carried(relaxation, target, rows)
    return constant if at_input is None else constant + relaxation.threat.lowest(relaxation.x0, at_input)


def carried(relaxation: Relaxation, target: str, rows: Tensor) -> tuple[Tensor | None, Tensor]:
    """Affine functions of the input below rows [B, R, *shape] over the value `target`, wherever the relaxation holds:
    coefficients [B, R, *input_shape] (None: all zero) and constants [B, R]."""
    front = Front({target: rows}, rows.new_zeros(rows.shape[:2]))
    for node in reversed(relaxation.graph.nodes):
        arrived = front.rows.pop(node.name, None)
        if arrived is None:
            continue
        check_time()
        rule = rule_of(relaxation.graph, node)
        if isinstance(rule, Affine):
            through_affine(relaxation, node, rule, arrived, front)
        else:
            through(relaxation, node, rule, arrived, front)
    return front.rows.get(relaxation.graph.input), front.constant


def through_affine(relaxation: Relaxation, node: Node, rule: Affine, rows: Tensor, front: Front) -> None:
    """Carry rows that arrived at an affine node to its inputs."""
    args = relaxation.arguments(node)
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
