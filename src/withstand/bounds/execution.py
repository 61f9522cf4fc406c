"""How far a network, as a machine runs it in its own float type, may lie from the real function that proofs speak of.

Every value of the graph carries a box, in which the real value lies, and a radius, within which the machine's value
lies from the real one. A radius grows by what it is given, times how steep the operator is, and by the operator's own
roundings: of the result for one operation, of all terms for a sum in any order (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, (2.4) and (3.3); the checker's `rounding` states the model), and `LIBRARY` for functions
that libraries approximate. Convolutions by transforms, such as Winograd's, are not covered. Computed in float64 and
widened by `WIDEN`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds import affine
from withstand.bounds.interval import intersect, step
from withstand.bounds.relax import derivative
from withstand.bounds.rule import Affine, Box, Elementwise, active, rule_of
from withstand.graph.ir import Graph, Node
from withstand.graph.ops import OPS

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24, torch.float64: 2.0**-53}
"""Unit roundoff by float type."""

SMALLEST = {torch.float16: 2.0**-14, torch.bfloat16: 2.0**-126, torch.float32: 2.0**-126, torch.float64: 2.0**-1022}
"""What an operation may lose where its result underflows and is flushed to zero."""

LIBRARY = 16
"""Unit roundoffs of max(1, |value|) by which exp, sigmoid and their like may be wrong in the libraries."""

WIDEN = 1 + 2.0**-20
"""Outward widening of a radius, far above the float64 roundings of computing it."""

ROOM = 3
"""Roundings of a sum of products beside those of its terms: the bias, and factors that runtimes fold into weights."""

EXACT = {"relu", "abs", "clip", "sign", "floor", "round", "neg", "reshape", "transpose", "where", "concat", "slice"}
EXACT |= {"gather", "pad", "expand", "max", "min", "max_pool"}
"""Operators that pick, move or cut numbers and round none."""

STEEP = {"relu": 1.0, "abs": 1.0, "clip": 1.0, "sin": 1.0, "cos": 1.0, "silu": 1.0999, "gelu": 1.1291}
"""Functions of one number with a bound of the size of their slope, everywhere."""

PEAKED = {"sigmoid", "tanh", "erf", "softplus", "exp", "log", "sqrt", "reciprocal", "pow"}
"""Functions of one number that are steepest at an end of an interval, or at its number nearest to zero."""


@dataclass(frozen=True)
class Near:
    """Real values lie in the box low, high [B, *shape], and the machine's within radius [B, *shape] of them."""

    low: Tensor
    high: Tensor
    radius: Tensor

    @property
    def size(self) -> Tensor:
        """The largest magnitude that the machine may hold."""
        return torch.maximum(self.low.abs(), self.high.abs()) + self.radius

    @property
    def box(self) -> Box:
        """Where real values lie."""
        return self.low, self.high

    @property
    def held(self) -> Box:
        """Where the machine's values lie."""
        return self.low - self.radius, self.high + self.radius


def execution_radius(
    graph: Graph,
    low: Tensor,
    high: Tensor,
    known: Mapping[str, Box] | None = None,
) -> Tensor:
    """How far the outputs [B, *output_shape] of a graph run in a float type may lie from those of real arithmetic, for
    any input between low and high [B, *input_shape] that the type holds; infinite where no bound is known.

    graph: the network as it is run, before simplifications. known: boxes of real values by name, in float64, where some
    are known better than by intervals. Computed on the CPU.
    Raises InputError when an operator has no rule.
    """
    constants = {name: c.cpu() for name, c in graph.constants.items()}
    double = {name: c.double() if c.is_floating_point() else c for name, c in constants.items()}
    walk = _Walk(graph.with_constants(double), UNIT[graph.dtype], SMALLEST[graph.dtype], known or {})
    with torch.no_grad():
        return walk.run(low.cpu().double(), high.cpu().double())


@dataclass(frozen=True)
class _Walk:
    """One pass in an arithmetic of unit roundoff `unit`, where less than `smallest` may be flushed to zero."""

    graph: Graph
    unit: float
    smallest: float
    known: Mapping[str, Box]

    def run(self, low: Tensor, high: Tensor) -> Tensor:
        values = {self.graph.input: Near(low, high, torch.zeros_like(low))}
        for node in self.graph.nodes:
            boxes = {name: values[name].box for name in node.inputs if name in values}
            box = step(self.graph, node, boxes)
            if node.name in self.known:
                box = intersect(box, self.known[node.name])
            radius = self._radius(node, [values.get(name) for name in node.inputs], box)
            radius = torch.minimum(radius * WIDEN, self._spread(node, values, box))
            radius = radius.masked_fill(~(box[0].isfinite() & box[1].isfinite()) | radius.isnan(), torch.inf)
            values[node.name] = Near(*box, radius.expand_as(box[0]))
        return values[self.graph.output].radius

    def _spread(self, node: Node, values: Mapping[str, Near], box: Box) -> Tensor:
        """The width of the box in which the machine's and the real value both lie, with what libraries add; infinite
        for sums, whose terms may be larger than they are."""
        if node.op not in EXACT | {"mul", "div"} and not isinstance(rule_of(self.graph, node), Elementwise):
            return torch.full_like(box[0], torch.inf)
        held = {name: values[name].held for name in node.inputs if name in values}
        low, high = step(self.graph, node, held)
        return (high - low + self._own(node, torch.maximum(low.abs(), high.abs()))) * WIDEN

    def _own(self, node: Node, size: Tensor, terms: int = 1) -> Tensor:
        """The roundings of an operator itself. size: of its result; for sums, of all terms together."""
        if node.op in EXACT:
            return torch.zeros_like(size)
        if isinstance(rule_of(self.graph, node), Elementwise):
            return LIBRARY * self.unit * size.clamp(min=1) + self.smallest
        return _gamma(terms, self.unit) * size + terms * self.smallest

    def _radius(self, node: Node, inputs: Sequence[Near | None], box: Box) -> Tensor:
        rule = rule_of(self.graph, node)
        size = torch.maximum(box[0].abs(), box[1].abs())
        if isinstance(rule, Elementwise):
            (given,) = (i for i in inputs if i is not None)
            carried = _steepness(rule, given, node.attrs) * given.radius
            return carried.nan_to_num(0.0) + self._own(node, size + carried.nan_to_num(0.0))
        if isinstance(rule, Affine):
            return self._affine(rule, node, inputs, size)
        carry = CARRIES.get(node.op)
        if carry is None:
            return torch.full_like(size, torch.inf)
        full = [self._full(name, given) for name, given in zip(node.inputs, inputs, strict=True)]
        return carry(self, node, full, size)

    def _full(self, name: str, given: Near | None) -> Near:
        """An input, constants included."""
        if given is not None:
            return given
        value = self.graph.constant(name)
        return Near(value, value, torch.zeros_like(value))

    def _affine(self, rule: Affine, node: Node, inputs: Sequence[Near | None], size: Tensor) -> Tensor:
        graph = self.graph
        shapes = {
            name: given.low.shape[1:] for name, given in zip(node.inputs, inputs, strict=True) if given is not None
        }
        args = affine.arguments(graph, node, shapes)
        carried, terms = torch.zeros_like(size), torch.zeros_like(size)
        for position in active(graph, node):
            given = inputs[position]
            assert given is not None
            carried = carried + affine.absolute(rule, given.radius, position, args, node.attrs)
            if node.op not in EXACT:
                terms = terms + affine.absolute(rule, given.size, position, args, node.attrs)
        if node.op in EXACT:
            return carried
        start = affine.constant_part(rule, args, node.attrs, size)
        terms = terms if start is None else terms + start.abs()
        count = _terms(graph, node, shapes)
        known = terms if count > 1 else torch.minimum(terms, size + carried)
        return carried + self._own(node, known, count)


def _gamma(terms: int, unit: float) -> float:
    """n u / (1 - n u): the relative error of a sum of n products; infinite where a sum is too long for the type."""
    return terms * unit / (1 - terms * unit) if terms * unit < 1 else math.inf


def _terms(graph: Graph, node: Node, shapes: Mapping[str, torch.Size]) -> int:
    """How many roundings a result of an affine operator passes at most."""
    name = node.inputs[0]
    if node.op == "linear":
        return graph.constant(node.inputs[1]).shape[1] + ROOM
    if node.op == "conv":
        return graph.constant(node.inputs[1])[0].numel() + ROOM
    if node.op == "conv_transpose":
        return graph.constant(node.inputs[1])[:, 0].numel() + ROOM
    if node.op == "matmul":
        first = shapes[name] if name in shapes else graph.constant(name).shape
        return first[-1] + 1
    if node.op == "avg_pool":
        return math.prod(node.attrs["kernel"]) + 1
    if node.op in ("sum", "mean"):
        return math.prod(shapes[name][dim - 1] for dim in node.attrs["dims"]) + 1
    return 1


def _steepness(rule: Elementwise, given: Near, attrs: Mapping[str, float]) -> Tensor:
    """A bound of the size of f' over all that the machine may hold; infinite where none is known."""
    low, high = given.held
    if rule.op in STEEP:
        return torch.full_like(low, STEEP[rule.op])
    if rule.op == "leaky_relu":
        return torch.full_like(low, max(1.0, abs(attrs["slope"])))
    if rule.op == "elu":
        return torch.full_like(low, max(1.0, abs(attrs["alpha"])))
    if rule.op not in PEAKED:
        return torch.full_like(low, torch.inf)
    nearest = torch.minimum(torch.maximum(torch.zeros_like(low), low), high)
    found = torch.stack([derivative(rule.op, point, attrs).abs() for point in (low, high, nearest)])
    return found.nan_to_num(torch.inf, torch.inf).amax(0)


Carry = Callable[[_Walk, Node, Sequence[Near], Tensor], Tensor]
"""A walk, a node, its inputs and the largest size [B, *shape] of its real values to the radius of its value."""


def _product(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    a, b = inputs
    carried = a.size * b.radius + a.radius * b.size
    return carried + walk._own(node, size + carried)


def _quotient(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    a, b = inputs
    low, high = b.held
    least = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs()))
    carried = (a.radius + size * b.radius) / least
    return carried + walk._own(node, size + carried)


def _matrix_product(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    a, b = inputs
    terms = _times(a.size, b.size)
    carried = _times(a.size, b.radius) + _times(a.radius, b.size)
    return carried + walk._own(node, terms, a.low.shape[-1] + 1)


def _times(a: Tensor, b: Tensor) -> Tensor:
    return OPS["matmul"].run(a, b)


def _extremum(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    a, b = inputs
    return torch.maximum(a.radius, b.radius).expand_as(size)


def _pool(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    return OPS["max_pool"].run(inputs[0].radius, **node.attrs)


def _log_odds(walk: _Walk, node: Node, given: Near) -> Tensor:
    """How far the logarithm of a sum of exponentials, or of one share of it, may be off: [B, ..., 1, ...]."""
    dim = node.attrs["dim"]
    apart = given.high.amax(dim, keepdim=True) - given.low.amin(dim, keepdim=True)
    moved = given.radius.amax(dim, keepdim=True)
    library = LIBRARY * walk.unit + _gamma(given.low.shape[dim] + 1, walk.unit)
    return 2 * (moved + walk.unit * (apart + 2 * moved) + library)


def _softmax(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    """Errors of up to r in every exponent change a share by a factor of at most exp(2 r)."""
    return size * torch.expm1(_log_odds(walk, node, inputs[0])) + LIBRARY * walk.unit


def _log_softmax(walk: _Walk, node: Node, inputs: Sequence[Near], size: Tensor) -> Tensor:
    carried = inputs[0].radius + _log_odds(walk, node, inputs[0])
    return carried + LIBRARY * walk.unit * (size + carried).clamp(min=1)


CARRIES: dict[str, Carry] = {
    "mul": _product,
    "div": _quotient,
    "matmul": _matrix_product,
    "max": _extremum,
    "min": _extremum,
    "max_pool": _pool,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}
"""By operator of several numbers."""
