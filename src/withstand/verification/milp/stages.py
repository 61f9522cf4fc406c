"""A graph as stages: its nodes that are not affine, each with the affine maps that lead to it from those before."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from withstand.bounds import affine
from withstand.bounds.planes import dot
from withstand.bounds.rule import Affine, Elementwise, Nonlinear, active, rule_of
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph, Node
from withstand.verification.milp.program import Form, Sparse

ENTRIES = 8_000_000
"""Numbers in the largest tensor of rows on their way back."""


@dataclass(frozen=True)
class Map:
    """A value as an affine map of sources (the input, values of stages): sum of parts[s] @ s + constant, all flat."""

    parts: Mapping[str, Sparse]
    constant: np.ndarray

    def of(self, forms: Mapping[str, Form]) -> Form:
        """The value as a form, its sources given as forms."""
        from scipy.sparse import csr_array

        found = Form(csr_array((len(self.constant), 0)), self.constant)
        for name, matrix in self.parts.items():
            found = found + forms[name].mapped(matrix)
        return found


@dataclass(frozen=True)
class Stage:
    """A node that is not affine, and its inputs as maps; constants are maps without parts."""

    node: Node
    rule: Elementwise | Nonlinear
    inputs: tuple[Map, ...]


@dataclass(frozen=True)
class Stages:
    """The stages of a graph in order, and its output."""

    graph: Graph
    stages: tuple[Stage, ...]
    output: Map


def stages_of(graph: Graph) -> Stages:
    """The graph's stages, computed in the type of its constants (float64 is meant). The same for every question.

    Raises InputError when an operator has no rule.
    """
    reader = _Reader(graph)
    found = []
    for node in graph.nodes:
        rule = rule_of(graph, node)
        if not isinstance(rule, Affine):
            found.append(Stage(node, rule, tuple(reader.map(name) for name in node.inputs)))
    return Stages(graph, tuple(found), reader.map(graph.output))


class _Reader:
    """Carries unit rows of a value back through affine nodes to its sources."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        with torch.no_grad():
            values = graph.trace(torch.zeros(1, *graph.input_shape, dtype=torch.float64))
        self.shapes = {name: value.shape[1:] for name, value in values.items()}
        self._constants: dict[str, Tensor | None] = {}

    def map(self, target: str) -> Map:
        """The value `target` as a map of its sources."""
        from scipy.sparse import csr_array, vstack

        if self.graph.is_constant(target):
            return Map({}, self.graph.constant(target).double().numpy().ravel())
        size = math.prod(self.shapes[target])
        widest = max(math.prod(shape) for shape in self.shapes.values())
        parts: dict[str, list[Sparse]] = {}
        constants = []
        for places in torch.arange(size).split(max(1, ENTRIES // widest)):
            rows, constant = self._back(target, places)
            constants.append(constant[0].numpy())
            for name, part in rows.items():
                parts.setdefault(name, []).append(csr_array(flattened(part, 2)[0].numpy()))
        whole = {name: csr_array(vstack(pieces)) for name, pieces in parts.items()}
        return Map(whole, np.concatenate(constants))

    @torch.no_grad()
    def _back(self, target: str, places: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        shape = self.shapes[target]
        units = torch.zeros(len(places), math.prod(shape), dtype=torch.float64)
        units[torch.arange(len(places)), places] = 1.0
        rows, constant = {target: units.reshape(1, -1, *shape)}, units.new_zeros(1, len(places))
        for node in reversed(self.graph.nodes):
            rule = rule_of(self.graph, node)
            if node.name not in rows or not isinstance(rule, Affine):
                continue
            arrived = rows.pop(node.name)
            args = affine.arguments(self.graph, node, self.shapes)
            if node.name not in self._constants:
                self._constants[node.name] = affine.constant_part(rule, args, node.attrs, arrived)
            start = self._constants[node.name]
            if start is not None:
                constant = constant + dot(arrived, start)
            for position in active(self.graph, node):
                name, back = node.inputs[position], affine.transpose(rule, arrived, position, args, node.attrs)
                rows[name] = rows[name] + back if name in rows else back
        return rows, constant
