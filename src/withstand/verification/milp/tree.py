"""Branch and bound on pairs of columns, of which one must be zero, by linear programs (Land and Doig 1960).

Every bound is recomputed from a linear program's multipliers in float64 (weak duality), and so is the emptiness of a
node from its ray: the tree's bound owes the solver nothing but its speed.
"""

import heapq
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from withstand.verification.milp.highs import Solved, Solver
from withstand.verification.milp.program import Array, Form, Program

SETTLED = 1e-8
"""A pair is settled where one of its columns is below this share of its width."""

ROUNDS = 20
"""How often a part without open pairs is bounded again after cuts; one with open pairs once."""


@dataclass(order=True)
class _Node:
    """A part of the search: the pairs decided, which of each is zero, and the pair to split next."""

    bound: float
    number: int
    closed: Array = field(compare=False)
    split: int = field(compare=False)
    basis: Any = field(compare=False)


class Tree:
    """The search for the least value of a form of size 1 over a solver's program and its pairs.

    see: values of all columns near a relaxed solution that meet all constraints and pairs, or None. cut: adds
    constraints that a solution breaks, and says whether it did (see `Region.cut`). nodes: linear programs solved.
    """

    def __init__(
        self,
        solver: Solver,
        goal: Form,
        see: Callable[[Array], Array | None],
        cut: Callable[[Program, Array], bool] = lambda program, columns: False,
    ) -> None:
        self.solver, self.program = solver, solver.program
        self.goal, self.see, self.cut = goal, see, cut
        self.value, self.columns = np.inf, None
        self.nodes, self.floor = 0, np.inf
        self._heap: list[_Node] = []
        self._current = -np.inf

    @property
    def open(self) -> int:
        """How many parts wait to be split."""
        return len(self._heap)

    def look(self, columns: Array) -> None:
        """Remember values of all columns that meet all constraints, if none are better."""
        value = float(self.goal.value(columns)[0])
        if value < self.value:
            self.value, self.columns = value, columns

    def search(self, enough: float = np.inf) -> Generator[Solved, None, None]:
        """States every moment, the last one done. enough: parts with a bound above it are not split further, so that
        the last bound may be less than the least value, but is above this."""
        yield from self._open(np.zeros(0, dtype=int), -np.inf, enough)
        while self._heap:
            node = heapq.heappop(self._heap)
            self._current = node.bound
            if self._is_done(node.bound, enough):
                self.floor = min(self.floor, node.bound)
                continue
            for column in self.program.pairs[node.split]:
                self.solver.basis = node.basis
                yield from self._open(np.append(node.closed, column), node.bound, enough)
        self._current = np.inf
        yield self._state(done=True)

    def _is_done(self, bound: float, enough: float) -> bool:
        gap = SETTLED * (1 + abs(self.value)) if np.isfinite(self.value) else 0.0
        return bound > enough or bound >= self.value - gap

    def _state(self, done: bool = False) -> Solved:
        waiting = self._heap[0].bound if self._heap else np.inf
        return Solved(min(waiting, self.floor, self._current), self.columns, done=done)

    def _open(self, closed: Array, above: float, enough: float) -> Generator[Solved, None, None]:
        """Bound the part where the columns `closed` are 0, and keep it if it is not done."""
        for rounds in range(ROUNDS):
            solved = Solved(-np.inf)
            with closing(self.solver.least(self.goal, closed)) as states:
                for state in states:
                    solved = state
                    yield self._state()
            bound = max(above, solved.bound)
            self.nodes += 1
            split = -1 if self._is_done(bound, enough) else self._choose(solved, closed)
            if solved.columns is None or self._is_done(bound, enough):
                break
            seen = self.see(solved.columns)
            if seen is not None:
                self.look(seen)
            if not self.cut(self.program, solved.columns) or (split >= 0 and rounds == 1):
                break
        if split < 0 or self._is_done(bound, enough):
            self.floor = min(self.floor, bound)
        else:
            heapq.heappush(self._heap, _Node(bound, self.nodes, closed, split, self.solver.basis))

    def _choose(self, solved: Solved, closed: Array) -> int:
        """The pair whose chord costs the bound most, among those that are not settled; -1: all are."""
        program = self.program
        free = ~np.isin(program.pairs, closed).any(1)
        if solved.columns is None or solved.dual is None:
            return int(free.argmax()) if free.any() else -1
        wide = program.high[program.pairs]
        share = (solved.columns[program.pairs] / np.where(wide > 0, wide, 1.0)).min(1)
        score = np.abs(solved.dual[program.pair_rows]) * program.pair_sizes + 1e-6 * share
        score = np.where(free & (share > SETTLED), score, -1.0)
        return int(score.argmax()) if (score >= 0).any() else -1
