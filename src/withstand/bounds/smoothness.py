"""How curved the cross-entropy of a network can be: a bound of its second derivative by the input, everywhere.

The second derivative of a composition is a sum over its operators that curve: the Jacobian J of what enters one, the
derivative c of the loss by what leaves it, and J' diag(c f'') J. Affine operators add nothing. So the largest
eigenvalue is at most the sum of max|c| max|f''| |J|^2, where |J| is bounded by products of operators' norms from the
input on, and c, element by element, by absolute values of weights from the loss back.
"""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from withstand.bounds import affine
from withstand.bounds.rule import Affine, active, rule_of
from withstand.core.errors import InputError
from withstand.core.shapes import flattened
from withstand.core.spectra import greatest_eigenvalues
from withstand.graph.ir import Graph, Node

STEEP = {
    "sigmoid": (0.25, 0.0963),
    "tanh": (1.0, 0.7699),
    "erf": (1.1284, 0.9679),
    "softplus": (1.0, 0.25),
    "elu": (1.0, 1.0),
    "silu": (1.0999, 0.5),
    "gelu": (1.1291, 0.7979),
    "sin": (1.0, 1.0),
    "cos": (1.0, 1.0),
}
"""Functions of one number whose slope is continuous: bounds, rounded up, of its size and of that of its change."""

SLACK = 1e-6
"""Outward widening of the result, as a share: far above the rounding of the float64 computations behind it."""

DENSE = 2**23
"""Elements of a matrix whose norm is computed from its singular values; those of larger maps are bounded by sums."""


def smoothness(graph: Graph) -> float:
    """A bound L of the largest eigenvalue of the second derivative, by the input [*input_shape], of the cross-entropy
    of a graph's logits [K] against any class, at every input: the gradient never turns faster upwards.

    Computed in float64 and widened. Raises InputError, a sentence that says why, where an operator has no such bound:
    those with kinks, as ReLU and max pooling, have none.
    """
    graph = copy.deepcopy(graph).double()
    if len(graph.output_shape) != 1 or graph.output_shape[0] < 2:
        raise InputError("A bound of the cross-entropy's curvature is for networks with one logit a class.")
    with torch.no_grad():
        return _Walk(graph).total() * (1 + SLACK)


@dataclass
class _Slope:
    """The derivative of the loss by a value: bounds of its elements [*shape] and of its length."""

    size: Tensor
    length: float

    def __add__(self, other: "_Slope") -> "_Slope":
        return _Slope(self.size + other.size, self.length + other.length)


@dataclass
class _Walk:
    """Norms of Jacobians forward, slopes of the loss back, and their products where the graph curves."""

    graph: Graph
    shapes: dict[str, torch.Size] = field(init=False)
    norms: dict[tuple[str, int], float] = field(default_factory=dict)
    jacobian: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.graph
        traced = graph.trace(torch.zeros(1, *graph.input_shape, dtype=torch.float64))
        self.shapes = {name: value.shape[1:] for name, value in traced.items()}
        self.jacobian = {graph.input: 1.0}
        for node in graph.walk():
            parts = [self._norm(node, i) * self.jacobian[node.inputs[i]] for i in active(graph, node)]
            self.jacobian[node.name] = math.fsum(parts)

    def total(self) -> float:
        """The bound."""
        start, slope, bend = self._loss()
        slopes, found = {start: slope}, bend * self.jacobian[start] ** 2
        for node in reversed(self.graph.nodes):
            at = slopes.pop(node.name, None)
            if at is None:
                continue
            if node.op in STEEP:
                (source,) = node.inputs
                steep, turn = STEEP[node.op]
                found += turn * min(float(at.size.max()), at.length) * self.jacobian[source] ** 2
                backward = {0: _Slope(steep * at.size, steep * at.length)}
            else:
                backward = {i: self._back(node, i, at) for i in active(self.graph, node)}
            for i, held in backward.items():
                name = node.inputs[i]
                slopes[name] = slopes[name] + held if name in slopes else held
        return found

    def _loss(self) -> tuple[str, _Slope, float]:
        """Where the loss starts, its slope there and how far it bends: the cross-entropy with a last linear layer, if
        there is one, whose rows w give it the slope sum_j p_j (w_j - w_y) and the bend of the variance of w under p."""
        last = self.graph.nodes[-1]
        if last.op == "linear" and active(self.graph, last) == [0]:
            weight = self.graph.constant(last.inputs[1])
            apart = float(torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist").max())
            return last.inputs[0], _Slope(weight.amax(0) - weight.amin(0), apart), apart**2 / 4
        ones = torch.ones(self.graph.output_shape, dtype=torch.float64)
        return self.graph.output, _Slope(ones, math.sqrt(2)), 0.5

    def _norm(self, node: Node, position: int) -> float:
        """The norm of an operator's derivative by one of its inputs, everywhere."""
        if node.op in STEEP:
            if (node.op == "elu" and node.attrs["alpha"] != 1) or node.attrs.get("approximate", "none") != "none":
                raise _bends(node)
            return STEEP[node.op][0]
        rule = rule_of(self.graph, node)
        if not isinstance(rule, Affine):
            raise _bends(node)
        if (node.name, position) not in self.norms:
            self.norms[node.name, position] = self._matrix_norm(node, rule, position)
        return self.norms[node.name, position]

    def _matrix_norm(self, node: Node, rule: Affine, position: int) -> float:
        args = affine.arguments(self.graph, node, self.shapes)
        shape, out = self.shapes[node.inputs[position]], self.shapes[node.name]
        ones = torch.ones(1, *shape, dtype=torch.float64)
        most_in_rows = affine.absolute(rule, ones, position, args, node.attrs).abs().max()
        most_in_columns = self._absolute_back(node, rule, position, torch.ones(out, dtype=torch.float64)).max()
        by_sums = math.sqrt(float(most_in_rows) * float(most_in_columns))
        if not rule.signed or shape.numel() * out.numel() > DENSE:
            return by_sums
        eye = torch.eye(shape.numel(), dtype=torch.float64).reshape(-1, *shape)
        matrix = flattened(affine.forward(rule, eye, position, args, node.attrs))
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        largest = float(greatest_eigenvalues(gram).clamp(min=0))
        return min(by_sums, math.sqrt(largest))

    def _back(self, node: Node, position: int, at: _Slope) -> _Slope:
        rule = rule_of(self.graph, node)
        assert isinstance(rule, Affine)
        length = self._norm(node, position) * at.length
        return _Slope(self._absolute_back(node, rule, position, at.size).clamp(max=length), length)

    def _absolute_back(self, node: Node, rule: Affine, position: int, size: Tensor) -> Tensor:
        """Sizes [*out] times the absolute values of the linear part: [*in]."""
        args = affine.arguments(self.graph, node, self.shapes)
        sized = [a.abs() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return affine.transpose(rule, size.expand(1, 1, *size.shape), position, sized, node.attrs)[0, 0].abs()


def _bends(node: Node) -> InputError:
    return InputError(
        f"The operator {node.op!r} at node {node.name!r} has no bounded second derivative; train with smooth ones such "
        "as ELU or softplus."
    )
