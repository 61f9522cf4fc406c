"""The rule of an operator: the one record that interval, linear and zonotope bounds all read.

A rule is one of three records. `Elementwise`: a function of one number. `Affine`: a map whose transpose is known.
`Nonlinear`: several inputs, with its own interval and, where there is one, its own planes.
"""

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.graph.ir import Graph, Node
from withstand.graph.ops import OPS

if TYPE_CHECKING:
    from withstand.bounds.planes import Planes
    from withstand.bounds.relax import Lines

Box = tuple[Tensor, Tensor]
"""Lower and upper bounds [B, *shape] of a value."""

Curvature = Callable[..., Tensor]
Slopes = tuple[Tensor, Tensor]


def convex(lo: Tensor, hi: Tensor, **attrs: Any) -> Tensor:
    """Convex everywhere."""
    return torch.ones_like(lo)


def concave(lo: Tensor, hi: Tensor, **attrs: Any) -> Tensor:
    """Concave everywhere."""
    return -torch.ones_like(lo)


def mixed(lo: Tensor, hi: Tensor, **attrs: Any) -> Tensor:
    """Nothing is known."""
    return torch.zeros_like(lo)


def pieces(inflections: Sequence[float], signs: Sequence[int]) -> Curvature:
    """Convex (1), concave (-1) or unknown (0) between the inflection points: one sign more than points."""

    def curvature(lo: Tensor, hi: Tensor, **attrs: Any) -> Tensor:
        ends = [-torch.inf, *inflections, torch.inf]
        known = torch.zeros_like(lo)
        for left, right, sign in zip(ends[:-1], ends[1:], signs, strict=True):
            known = torch.where((lo >= left) & (hi <= right), float(sign), known)
        return known

    return curvature


@dataclass(frozen=True)
class Elementwise:
    """A function f of one number, run as `OPS[op].run(x, **attrs)`.

    critical(lo, hi, slope, **attrs): tensors of points that contain every place inside [lo, hi] where f(x) - slope * x
        may have an extremum, kink or jump. They are clamped to [lo, hi] and NaN is dropped by the caller; points too
        many do no harm, one missing makes the rule unsound.
    curvature(lo, hi, **attrs): 1 where f is convex on [lo, hi], -1 where concave, 0 where neither is known.
    slopes(lo, hi, **attrs): slopes of a good lower and a good upper line; None takes those nearest to f in the middle:
        chords and tangents by curvature, and lines found by search where f is neither convex nor concave.
    undefined(lo, hi, **attrs): where f has a pole or no value in [lo, hi], so that its bounds are infinite.
    slack: outward widening, in roundings of the largest value, for critical points found by search.
    kinks(**attrs): where f bends, if it is made of straight pieces: boxes without a kink inside prove it to be a line.
    lines(lo, hi, lower): `relax.lines` in closed form, for speed.
    """

    op: str
    critical: Callable[..., Sequence[Tensor]]
    curvature: Curvature = mixed
    slopes: Callable[..., Slopes] | None = None
    undefined: Callable[..., Tensor] | None = None
    slack: float = 0.0
    kinks: Callable[..., tuple[float, ...]] | None = None
    lines: "Callable[..., Lines] | None" = None

    @property
    def monotone(self) -> bool:
        """Whether f never falls."""
        return OPS[self.op].monotone


@dataclass(frozen=True)
class Affine:
    """A map affine in its activations while its other inputs are constants.

    adjoint(rows, position, args, **attrs): rows [N, *out] times the linear part with respect to the input at
        `position`, giving [N, *in]. `args` are the node's inputs: a tensor for a constant, a `torch.Size` of one sample
        for an activation. None takes the transpose from automatic differentiation.
    transpose(rows, position, args, **attrs): the same for rows [B, R, *out], R of each sample; None takes `adjoint`.
    forward(x, position, args, **attrs): the linear part with respect to that input, x [N, *in] to [N, *out]. With the
        absolute values of `args` it maps radii. None runs the operator with its other float inputs at zero.
    positions: inputs that may be activations; None any of them.
    joint: affine in all activations together (add), not only in one at a time (mul).
    falling: inputs in which the map never rises (it never falls in the others), where the op is not monotone in OPS.
    """

    op: str
    adjoint: Callable[..., Tensor] | None = None
    forward: Callable[..., Tensor] | None = None
    transpose: Callable[..., Tensor] | None = None
    positions: tuple[int, ...] | None = None
    joint: bool = False
    falling: tuple[int, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether weights of either sign may occur, so that a box is mapped as centre and radius."""
        return not OPS[self.op].monotone and not self.falling

    def admits(self, active: Sequence[int]) -> bool:
        """Whether the map is affine with activations at these positions."""
        placed = self.positions is None or set(active) <= set(self.positions)
        return placed and (self.joint or len(active) == 1)


Rows = tuple[list[Tensor], Tensor]


@dataclass(frozen=True)
class Nonlinear:
    """A map of one or more values that is not element-wise.

    interval(*boxes, **attrs): the output's box from the inputs' boxes; constants come as boxes of no width.
    planes(*boxes, **attrs): `withstand.bounds.planes.Planes` below and above every element of the output, over the same
        boxes. None uses the output's box.
    joint(rows, boxes, **attrs): rows [B, R, *out] to (a list of rows [B, R, *in] for each input, constant [B, R]) with
        rows . f(x) >= sum of rows_i . x_i + constant over the boxes, where that is more than the sum of the elements'
        planes. None takes the planes.
    affine: the rule that holds where all inputs but one are constants.
    """

    op: str
    interval: Callable[..., Box]
    planes: "Callable[..., Planes] | None" = None
    joint: Callable[..., Rows] | None = None
    affine: Affine | None = field(default=None)

    @property
    def backward(self) -> Callable[..., Rows] | None:
        """A function of rows, boxes and attributes, as `joint` describes; None where there are no planes."""
        if self.planes is None:
            return self.joint
        planes = self.planes
        return self.joint or (lambda rows, boxes, **attrs: planes(*boxes, **attrs).back(rows))


Rule = Elementwise | Affine | Nonlinear

_RULES: dict[str, Rule] = {}


def add_rule(rule: Rule) -> Rule:
    """Register a rule under its operator.

    Raises ValueError when the operator has a rule already or is not in `withstand.graph.ops.OPS`.
    """
    if rule.op in _RULES:
        raise ValueError(f"operator {rule.op!r} has two bound rules.")
    if rule.op not in OPS:
        raise ValueError(f"there is a bound rule for {rule.op!r}, which is not an operator of the graph.")
    _RULES[rule.op] = rule
    return rule


@cache
def _discover() -> None:
    package = importlib.import_module("withstand.bounds.rules")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    for point in importlib.metadata.entry_points(group="withstand.rules"):
        point.load()


def rules() -> dict[str, Rule]:
    """Every rule by operator, those of installed plugins included."""
    _discover()
    return dict(sorted(_RULES.items()))


_KNOWN: "WeakKeyDictionary[Graph, tuple[dict[str, Rule], dict[str, list[int]]]]" = WeakKeyDictionary()
"""Rules and positions of activations by node, of every graph that was asked about."""


def active(graph: Graph, node: Node) -> list[int]:
    """Positions of the node's inputs that are not constants."""
    _, positions = _KNOWN.setdefault(graph, ({}, {}))
    if node.name not in positions:
        positions[node.name] = [i for i, name in enumerate(node.inputs) if not graph.is_constant(name)]
    return positions[node.name]


def rule_of(graph: Graph, node: Node) -> Rule:
    """The rule that applies to a node: the affine one where its other inputs are constants.

    Raises InputError when there is none.
    """
    found, _ = _KNOWN.setdefault(graph, ({}, {}))
    if node.name not in found:
        found[node.name] = _rule_for(graph, node)
    return found[node.name]


def _rule_for(graph: Graph, node: Node) -> Rule:
    _discover()
    rule = _RULES.get(node.op)
    if rule is None:
        raise InputError(
            f"Operator {node.op!r} at node {node.name!r} has no bound rule; "
            "add one to a module of withstand.bounds.rules or to the entry points withstand.rules."
        )
    if isinstance(rule, Elementwise):
        return rule
    affine = rule if isinstance(rule, Affine) else rule.affine
    if affine is not None and affine.admits(active(graph, node)):
        return affine
    if isinstance(rule, Nonlinear):
        return rule
    raise InputError(
        f"Operator {node.op!r} at node {node.name!r} can be bounded only with constant weights or indices; "
        "make them constants of the model."
    )
