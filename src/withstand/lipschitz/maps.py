"""A linear map between two values of a graph: what several affine nodes together do to a change of the first value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds import affine
from withstand.bounds.rule import Affine, active, rule_of
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph, Node

CHUNK = 2**22
"""Numbers of a batch that goes through a map together."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """The linear part of the affine `nodes`, in order, that lead from the value `source` to the value `target`.

    No nodes: the identity. shapes: of one sample of every value.
    """

    graph: Graph
    source: str
    target: str
    nodes: tuple[Node, ...]
    shapes: Mapping[str, torch.Size]

    @property
    def inputs(self) -> int:
        """How many numbers the source has."""
        return math.prod(self.shapes[self.source])

    @property
    def outputs(self) -> int:
        """How many numbers the target has."""
        return math.prod(self.shapes[self.target])

    @property
    def name(self) -> str:
        """The nodes with weights, or all of them where none has."""
        weighted = [node for node in self.nodes if node.op in ("linear", "conv", "conv_transpose", "matmul")]
        return " + ".join(node.name for node in weighted or self.nodes) or self.target

    def __call__(self, x: Tensor) -> Tensor:
        """Changes [N, *target] of the target for changes x [N, *source]."""
        values = {self.source: x}
        for node in self.nodes:
            parts = [forward(self.graph, node, i, values[name], self.shapes) for i, name in self.reads(node, values)]
            values[node.name] = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        return values[self.target]

    def transpose(self, rows: Tensor) -> Tensor:
        """rows [N, *target] times the map: [N, *source]."""
        if not self.nodes:
            return rows
        with torch.enable_grad():
            zero = rows.new_zeros(len(rows), *self.shapes[self.source]).requires_grad_()
            return torch.autograd.grad(self(zero), zero, rows)[0]

    def matrix(self) -> Tensor:
        """The map as a matrix [outputs, inputs]."""
        columns = self.inputs <= self.outputs
        start = self.shapes[self.source] if columns else self.shapes[self.target]
        eye = torch.eye(math.prod(start), dtype=torch.float64).reshape(-1, *start)
        run = self if columns else self.transpose
        rows = max(1, CHUNK // max(self.inputs, self.outputs))
        found = torch.cat([flattened(run(part)) for part in eye.split(rows)])
        return found.T.contiguous() if columns else found

    def reads(self, node: Node, known: Mapping[str, object]) -> list[tuple[int, str]]:
        """Positions and names of the node's inputs that the source leads to."""
        return [(i, name) for i, name in enumerate(node.inputs) if name in known]


def forward(graph: Graph, node: Node, position: int, x: Tensor, shapes: Mapping[str, torch.Size]) -> Tensor:
    """The linear part of one affine node with respect to the input at `position`."""
    rule = rule_of(graph, node)
    assert isinstance(rule, Affine)
    return affine.forward(rule, x, position, affine.arguments(graph, node, shapes), node.attrs)


def absolute(graph: Graph, node: Node, position: int, x: Tensor, shapes: Mapping[str, torch.Size]) -> Tensor:
    """The same with the absolute values of its coefficients."""
    rule = rule_of(graph, node)
    assert isinstance(rule, Affine)
    return affine.absolute(rule, x, position, affine.arguments(graph, node, shapes), node.attrs)


def is_affine(graph: Graph, node: Node) -> bool:
    """Whether a node is affine in its activations. Raises InputError when its operator has no bound rule."""
    return isinstance(rule_of(graph, node), Affine)


def sources(graph: Graph, node: Node) -> list[str]:
    """Names of the node's inputs that are no constants, each once."""
    return list(dict.fromkeys(node.inputs[i] for i in active(graph, node)))
