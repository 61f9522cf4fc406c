"""The distance of the nearest violation, from both sides: a proven lower bound, and a witness."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from withstand.attacks.nearest import Nearest
from withstand.bounds.margin import lower_bound
from withstand.bounds.refine import crown
from withstand.core import closest as nearest
from withstand.core.balls import L1, L2, Linf
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.property import Property, Rows
from withstand.core.registry import suggest
from withstand.core.threat import Threat
from withstand.graph.ir import Graph
from withstand.verification.milp.highs import Solved, Solver
from withstand.verification.milp.program import Array
from withstand.verification.milp.question import doubled, rows_of_group
from withstand.verification.milp.stages import stages_of
from withstand.verification.milp.tighten import Effort, Encoded, encode
from withstand.verification.milp.tree import Tree

BALLS = {"linf": Linf, "l1": L1, "l2": L2}

HALVINGS = 12
"""Radii at which linear bounds are asked for a first proof."""

STRETCHES = (0.0, 1e-9, 1e-7, 1e-5, 1e-3)
"""By what share a solution is moved further from x0 until it violates the property beyond rounding."""


@dataclass(frozen=True)
class Closest:
    """bound: no input of the domain that is nearer violates the property. distance: of the witness [1, *shape], inf and
    None where none was found. exact: whether the search came to its end, so that both agree up to rounding."""

    bound: float
    distance: float
    witness: Tensor | None
    exact: bool


def closest(
    graph: Graph,
    x0: Tensor,
    y: Tensor,
    property: Property,
    norm: str = "linf",
    domain: tuple[float, float] = (0.0, 1.0),
    budget: Budget | None = None,
    effort: Effort | None = None,
) -> Closest:
    """The least distance from x0 [1, *shape] to an input of the domain that violates the property with target y [1].

    An attack finds the first witness, and inputs farther away than that are left out (Tjeng et al. 2019,
    arXiv:1711.07356, "minimum adversarial distortion"); linear bounds prove a first radius. The bound holds in float64
    without slack. budget: wall time. effort: how far neurons are tightened. Networks of straight pieces alone are
    searched to the end; for others the bound stays that of a relaxation.

    Raises InputError when the norm is not `linf`, `l1` or `l2`, when an operator has no rule, or when no violation was
    found and the domain is unbounded.
    """
    if norm not in BALLS:
        raise InputError(f"There is no closest violation in the norm {norm!r}; {suggest(norm, list(BALLS))}")
    budget = budget or Budget()
    graph, x0 = doubled(graph), x0.double()
    threat = BALLS[norm](0.1, domain)
    with torch.no_grad():
        if float(property.margin(graph(x0), y)) <= 0:
            return Closest(0.0, 0.0, x0, exact=True)
    found = nearest.closest(Nearest(), graph, x0, y, threat, property, budget=budget.share(0.2))
    reached = bool(found.refuted[0])
    radius = float(found.distance[0]) if reached else threat.widest(x0)
    if radius is None or not np.isfinite(radius):
        raise InputError("No violation was found, and the domain is unbounded; give finite edges of the domain.")
    search = _Search(graph, x0, y, property, threat.at(radius), effort or Effort(), found.x if reached else None)
    search.prove(budget)
    with closing(search.run()) as moments:
        for _ in moments:
            if budget.spent:
                return search.result(exact=False)
    return search.result(exact=search.encoded.program.exact)


class _Search:
    """The state of one search: bounds of the distance for every group of rows, and the nearest witness."""

    def __init__(
        self,
        graph: Graph,
        x0: Tensor,
        y: Tensor,
        property: Property,
        threat: Threat,
        effort: Effort,
        first: Tensor | None,
    ) -> None:
        self.graph, self.x0, self.y, self.property, self.threat, self.effort = graph, x0, y, property, threat, effort
        self.witness, self.distance = None, np.inf
        self.rows: Rows = property.rows(y, int(np.prod(graph.output_shape)), torch.float64)
        self.proved = 0.0
        self.bounds = np.zeros(int(self.rows.group.max()) + 1)
        if first is not None:
            self._keep(first)

    def result(self, exact: bool) -> Closest:
        """What is known so far. Beyond the radius searched nothing is nearer than the first witness."""
        bound = float(min(self.bounds.min(), self.distance))
        return Closest(bound, self.distance, self.witness, exact)

    def prove(self, budget: Budget) -> None:
        """A radius that linear bounds prove, by bisection."""
        low, high = 0.0, self.threat.radius
        for _ in range(HALVINGS):
            if budget.spent:
                break
            middle = (low + high) / 2
            with torch.no_grad():
                bound = lower_bound("crown", self.graph, self.threat.at(middle), self.x0, self.rows)
            low, high = (middle, high) if float(self.rows.combine(bound)) > 0 else (low, middle)
        self.proved = low
        self.bounds[:] = low

    def run(self) -> Generator[None, None, None]:
        """Search group by group; stops every moment."""
        stages = stages_of(self.graph)
        start = crown(self.graph, self.threat, self.x0)
        self.encoded: Encoded = yield from encode(stages, start, self.effort)
        goal = self.encoded.region.distance()
        for group in range(len(self.bounds)):
            program = self.encoded.program.copy()
            program.constrain(rows_of_group(self.encoded, self.rows, group), -np.inf, 0.0)
            tree = Tree(Solver(program), goal, self._see, self.encoded.region.cut)
            if self.witness is not None:
                tree.look(self.encoded.program.point(self.witness.flatten().numpy()))
            with closing(tree.search()) as states:
                for state in states:
                    self.bounds[group] = self._length(state)
                    yield

    def _length(self, state: Solved) -> float:
        """The bound of a state as a distance: what a region's form says is squared for l2."""
        bound = max(state.bound, 0.0)
        return max(self.proved, bound**0.5 if self.threat.norm == "l2" else bound)

    def _see(self, columns: Array) -> Array | None:
        """Values of all columns at the violation nearest to a solution, on the ray from x0 through it."""
        move = torch.from_numpy(self.encoded.region.moves.value(columns)).reshape(self.x0.shape)
        for stretch in STRETCHES:
            x = (self.x0 + (1 + stretch) * move).clamp(*self.threat.domain)
            if self._keep(x):
                return self.encoded.program.point(x.flatten().numpy())
        return None

    def _keep(self, x: Tensor) -> bool:
        """Whether x violates the property; it is the witness if none is nearer."""
        with torch.no_grad():
            if float(self.property.margin(self.graph(x), self.y)) > 0:
                return False
        distance = float(self.threat.distance(self.x0, x))
        if distance < self.distance:
            self.witness, self.distance = x, distance
        return True
