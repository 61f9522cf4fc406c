"""HiGHS (Huangfu and Hall 2018, doi:10.1007/s12532-017-0130-5) on a program: one thread, stopped at any moment.

Tolerances are 1e-9. The bound of a linear program is recomputed from its multipliers and owes the solver nothing. That
of a mixed-integer program is the least over the solver's tree, which cannot be recomputed; see `MARGIN`.
"""

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from withstand.verification.milp.program import Array, Form, Program, columns_of, constants

TOLERANCE = 1e-9
"""Feasibility tolerance of primal and dual values and of integrality."""

MARGIN = 10 * TOLERANCE
"""What the bound of HiGHS's tree is lowered by, times 1 and the sum of all columns' widths.

A node's bound is the value of a linear program whose reduced costs may have the wrong sign by TOLERANCE, which moves it
by at most that times the width of every column; the factor 10 is for what presolve and cuts add. Other errors of the
solver are not covered: the grade of such a bound is `float64 without slack`.
"""

LARGEST = 1e12
"""Coefficients, costs and finite edges handed over at most: HiGHS refuses numbers from 1e15 on, and the whole block of
rows that holds one."""

POLL = 0.02
"""Seconds between looks at a running solver."""


@dataclass(frozen=True)
class Solved:
    """The state of a solve. bound: a lower bound of the goal (inf: the constraints cannot be met). columns: values that
    meet all constraints, or None. dual: multipliers of the rows. done: whether the solver came to its end."""

    bound: float
    columns: Array | None = None
    dual: Array | None = None
    done: bool = False


class _Hearing:
    """What the solver tells while it runs, and whether it is to stop."""

    def __init__(self) -> None:
        from highspy import cb

        kinds = cb.HighsCallbackType
        self.better = kinds.kCallbackMipImprovingSolution
        self.asked = (kinds.kCallbackSimplexInterrupt, kinds.kCallbackMipInterrupt)
        self.begin()

    def begin(self) -> None:
        self.stop, self.bound, self.columns = False, -np.inf, None

    def __call__(self, kind: Any, message: str, told: Any, answer: Any, data: Any) -> None:
        if kind == int(self.better):
            self.columns = np.array(told.mip_solution)
            return
        if kind == int(self.asked[1]):
            self.bound = told.mip_dual_bound
        answer.user_interrupt = self.stop


class Solver:
    """Minimises forms over a program, which may grow between calls, its pairs left aside.

    `least` yields states every moment while the solver runs, the last one done; closing it stops the solver. Each call
    goes on from the last basis.
    """

    def __init__(self, program: Program) -> None:
        from highspy._core import _Highs

        self.program, self._hearing = program, _Hearing()
        self._highs: Any = _Highs()
        self._columns, self._blocks = 0, 0
        self._closed = np.zeros(0, dtype=int)
        self._scale = 1.0
        self._highs.setCallback(self._hearing, None)
        for kind in (*self._hearing.asked, self._hearing.better):
            self._highs.startCallback(kind)
        options = {"output_flag": False, "threads": 1, "simplex_scale_strategy": 0}
        options |= {"mip_rel_gap": 0.0, "mip_abs_gap": 1e-8}
        for name in ("primal_feasibility", "dual_feasibility", "mip_feasibility"):
            options[f"{name}_tolerance"] = TOLERANCE
        for name, value in options.items():
            self._highs.setOptionValue(name, value)

    def least(self, goal: Form, closed: Array | None = None) -> Generator[Solved, None, None]:
        """The least value of a form of size 1. closed: columns that are kept at 0."""
        from highspy import HighsModelStatus

        self._grow()
        self._aim(goal)
        closed = np.zeros(0, dtype=int) if closed is None else closed
        high = self.program.high.copy()
        high[closed] = 0.0
        changed = np.union1d(closed, self._closed).astype(np.int32)
        self._closed = closed
        self._highs.setOptionValue("presolve", "off")  # which would leave no ray where there is no solution
        low, ends = _edges(self.program.low[changed], high[changed])
        self._highs.changeColsBounds(len(changed), changed, low, ends)
        for _ in self._run():
            yield Solved(-np.inf)
        status, found = self._highs.getModelStatus(), self._highs.getSolution()
        if status == HighsModelStatus.kOptimal and self._is_whole(found):
            dual = self._scale * np.array(found.row_dual)
            yield Solved(self.program.dual_bound(goal, dual, high), np.array(found.col_value), dual, done=True)
        elif status == HighsModelStatus.kInfeasible and self._is_empty(high):
            yield Solved(np.inf, done=True)
        else:  # unbounded, out of time or memory, numbers too large: what the columns' own bounds say stays true
            yield Solved(self.program.dual_bound(goal, np.zeros(len(self.program.row_low)), high), done=True)

    @property
    def basis(self) -> Any:
        """The last basis, from which the next call goes on."""
        return self._highs.getBasis()

    @basis.setter
    def basis(self, basis: Any) -> None:
        self._highs.setBasis(basis)

    def whole(self, goal: Form, binary: Form, start: Array | None) -> Generator[Solved, None, None]:
        """The same by HiGHS's own tree, with some columns binary, begun at values `start` of all columns; once in a
        solver's life."""
        from highspy import HighsModelStatus, HighsSolution

        self._grow()
        self._aim(goal)
        self._highs.setOptionValue("presolve", "choose")
        index = binary.matrix.indices.astype(np.int32)
        self._highs.changeColsIntegrality(len(index), index, np.ones(len(index), dtype=np.uint8))
        if start is not None:
            solution = HighsSolution()
            solution.col_value = start.tolist()
            self._highs.setSolution(solution)
        room = MARGIN * self._scale * (1 + float((self.program.high - self.program.low).sum()))
        for _ in self._run(wait=False):
            yield Solved(self._scale * self._hearing.bound - room, self._hearing.columns)
        status, info = self._highs.getModelStatus(), self._highs.getInfo()
        bound, found = self._scale * info.mip_dual_bound, self._highs.getSolution()
        if status == HighsModelStatus.kOptimal and self._is_whole(found):
            bound = min(bound, self._scale * info.objective_function_value)
            yield Solved(bound - room, np.array(found.col_value), done=True)
        elif status.name in ("kInterrupt", "kHighsInterrupt"):
            yield Solved(bound - room, self._hearing.columns, done=True)
        else:  # a network has an output at every input: a program without a solution is one of numbers too large
            yield Solved(-np.inf, self._hearing.columns, done=True)

    def _is_empty(self, high: Array) -> bool:
        """Whether the solver's ray shows that no values meet the constraints."""
        _, has, ray = self._highs.getDualRay()
        if not has:
            return False
        ray = np.array(ray) / max(np.abs(ray).max(), 1e-300)
        return self.program.dual_bound(constants(np.zeros(1)), ray, high) > TOLERANCE

    def _grow(self) -> None:
        """Hand over the columns and rows that the program has gained."""
        program, fresh = self.program, len(self.program) - self._columns
        if fresh:
            low, high = _edges(program.low[self._columns :], program.high[self._columns :])
            start, none = np.zeros(fresh, dtype=np.int32), np.zeros(0, dtype=np.int32)
            self._highs.addCols(fresh, np.zeros(fresh), low, high, 0, start, none, np.zeros(0))
        first = self._highs.getNumRow()
        for block in program.blocks[self._blocks :]:
            own = slice(first, first + len(block))
            matrix, low, high = _taken(block.matrix, program.row_low[own], program.row_high[own])
            start, index = matrix.indptr[:-1].astype(np.int32), matrix.indices.astype(np.int32)
            self._highs.addRows(len(block), low, high, matrix.nnz, start, index, matrix.data)
            first += len(block)
        self._columns, self._blocks = len(program), len(program.blocks)

    def _aim(self, goal: Form) -> None:
        every = np.arange(self._highs.getNumCol(), dtype=np.int32)
        cost = np.zeros(len(every))
        cost[goal.matrix.indices] = goal.matrix.data
        largest = float(np.abs(cost).max(initial=0.0))
        self._scale = max(1.0, largest / LARGEST) if np.isfinite(largest) else 1.0
        cost = np.nan_to_num(cost, nan=0.0, posinf=0.0, neginf=0.0) / self._scale
        self._highs.changeColsCost(len(every), every, cost)
        self._highs.changeObjectiveOffset(float(np.nan_to_num(goal.constant[0])) / self._scale)

    def _is_whole(self, found: Any) -> bool:
        """Whether a solution speaks of all columns and rows of the program in finite numbers."""
        parts = ((found.col_value, len(self.program)), (found.row_dual, len(self.program.row_low)))
        return all(len(part) == size and bool(np.isfinite(part).all()) for part, size in parts)

    def _run(self, wait: bool = True) -> Generator[None, None, None]:
        """Run the solver beside the caller, which goes on every moment. wait: for its end, once it was told to stop;
        else it is left to end by itself, and must not be used again."""
        self._hearing.begin()
        thread = threading.Thread(target=self._highs.run)
        thread.start()
        try:
            thread.join(POLL)
            while thread.is_alive():
                yield
                thread.join(POLL)
        finally:
            self._hearing.stop = True
            if wait:
                thread.join()


def least_by_integers(program: Program, goal: Form, start: Array | None = None) -> Generator[Solved, None, None]:
    """The least value of a form of size 1 by HiGHS's own tree, with a binary for every pair: states every moment, the
    last one done; closing it stops the solver. start: values of all columns that meet constraints and pairs, from which
    the search begins."""
    if not len(program.pairs):
        yield from Solver(program).least(goal)
        return
    whole = program.copy()
    first, second = program.pairs.T
    none, high = np.zeros(len(first)), program.high
    on = whole.add(none, none + 1, lambda columns: (columns[first] > 0).astype(float))
    whole.constrain(columns_of(first) - on.scaled(high[first]), -np.inf, 0.0)
    whole.constrain(columns_of(second) + on.scaled(high[second]), -np.inf, high[second])
    if start is not None:
        start = np.append(start, start[first] > 0)
    yield from Solver(whole).whole(goal, on, start)


def _edges(low: Array, high: Array) -> tuple[Array, Array]:
    """The edges of columns as the solver takes them, wider where they are too large for it or are no numbers."""
    low = np.where(low > LARGEST, LARGEST, np.where(low >= -LARGEST, low, -np.inf))
    high = np.where(high < -LARGEST, -LARGEST, np.where(high <= LARGEST, high, np.inf))
    return low, high


def _taken(matrix: Any, low: Array, high: Array) -> tuple[Any, Array, Array]:
    """Rows as the solver takes them: one with a number too large for it becomes a row that says nothing, so that the
    program is a relaxation and every row keeps its place."""
    wild = ~(np.abs(matrix.data) <= LARGEST)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lost = np.isnan(low) | np.isnan(high) | (low > LARGEST) | (high < -LARGEST)
    lost[rows[wild]] = True
    if not lost.any():
        return matrix, low, high
    matrix = matrix.copy()
    matrix.data[lost[rows]] = 0.0
    return matrix, np.where(lost, -np.inf, low), np.where(lost, np.inf, high)
