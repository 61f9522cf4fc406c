"""One question by programs: linear bounds, linear programs, and a tree for every group of rows left open."""

import copy
from collections.abc import Generator
from contextlib import closing
from typing import Literal

import numpy as np
import torch

from withstand.bounds.linear import Relaxation
from withstand.bounds.margin import Bounds
from withstand.bounds.refine import crown
from withstand.core.evidence import Candidate, Evidence, Grade, Lower
from withstand.core.judge import needed
from withstand.core.property import Rows
from withstand.graph.ir import Graph
from withstand.verification.milp.highs import Solved, Solver, least_by_integers
from withstand.verification.milp.program import Array, Form, Program
from withstand.verification.milp.stages import Stages, stages_of
from withstand.verification.milp.tighten import Effort, Encoded, encode
from withstand.verification.milp.tree import Tree
from withstand.verification.problem import Problem

Goal = Literal["status", "worst"]
"""Whether a question is done with once its bound is positive, or only when the least margin is known."""

Engine = Literal["tree", "highs"]
"""Who searches: our tree of linear programs, every bound of which is recomputed, or HiGHS's own."""

Work = Generator[Evidence, None, None]


def doubled(graph: Graph) -> Graph:
    """A copy of the graph in float64."""
    return copy.deepcopy(graph).double()


def relaxed_bounds(problem: Problem, effort: Effort, memory_mb: float) -> Work:
    """For every open question the bound of its linear programs, and candidates on the way."""
    for asked in _open_questions(problem, effort, memory_mb):
        yield from asked.prepare(asked.level)
        yield from asked.relaxed()


def exact_bounds(problem: Problem, effort: Effort, goal: Goal, engine: Engine, memory_mb: float) -> Work:
    """For every open question running bounds of its least margin, and candidates on the way."""
    for asked in _open_questions(problem, effort, memory_mb):
        yield from asked.prepare(asked.level if goal == "status" else np.inf)
        yield from asked.relaxed()
        yield from asked.searched(goal, engine)


def _open_questions(problem: Problem, effort: Effort, memory_mb: float) -> "Generator[Question, None, None]":
    stages: Stages | None = None
    for number in range(len(problem)):
        if problem.open[number]:
            stages = stages or stages_of(doubled(problem.graph))
            yield Question(problem, number, stages, effort, memory_mb)


class Question:
    """One question of a problem, in float64. Its methods yield evidence, and none once the question is closed.

    bounds [G]: of every group of rows so far.
    """

    def __init__(self, problem: Problem, number: int, stages: Stages, effort: Effort, memory_mb: float) -> None:
        self.problem, self.number, self.stages, self.effort = problem, number, stages, effort
        self.memory_mb = memory_mb
        only = torch.tensor([number], device=problem.x0.device)
        self.x0 = problem.x0[only].double().cpu()
        self.threat = problem.threat.pick(only, problem.x0)
        outputs = int(np.prod(stages.graph.output_shape))
        self.rows = problem.property.rows(problem.y[only], outputs, torch.float64)
        self.bounds = np.full(int(self.rows.group.max()) + 1, -np.inf)
        with torch.no_grad():
            self.level = 2 * float(needed(Grade.FLOAT64, stages.graph(self.x0)))
        self.lowest, self.programs, self.tree = np.inf, 0, None

    @property
    def is_open(self) -> bool:
        """Whether the question still wants an answer."""
        return bool(self.problem.open[self.number])

    def prepare(self, enough: float) -> Work:
        """Bound the rows by linear bounds; if they leave some at most `enough`, build the program."""
        start = crown(self.stages.graph, self.threat, self.x0, memory_mb=self.memory_mb)
        yield self._by_lines(start)
        if not self.is_open or self.bounds.min() > enough:
            return
        self.encoded = yield from self._through(encode(self.stages, start, self.effort, self.memory_mb))
        yield self._by_lines(self.encoded.relaxation)
        program, groups = self.encoded.program, range(len(self.bounds))
        self.goals = [largest_of(program, rows_of_group(self.encoded, self.rows, group)) for group in groups]
        self.solver = Solver(program)

    def _by_lines(self, relaxation: Relaxation) -> Lower:
        groups = self.rows.groups(Bounds(relaxation, self.memory_mb).lower(self.rows))[0].numpy()
        self.bounds = np.maximum(self.bounds, groups)
        return self._bound()

    def _through(self, building: Generator[None, None, Encoded]) -> Generator[Evidence, None, Encoded]:
        while True:
            try:
                next(building)
            except StopIteration as end:
                return end.value
            yield self._bound()

    def relaxed(self) -> Work:
        """Bound every group by its linear program."""
        for group in np.argsort(self.bounds):
            if self.is_open and self.bounds[group] <= self.level:
                yield from self._follow(group, self.solver.least(self.goals[group]), np.inf)

    def searched(self, goal: Goal, engine: Engine) -> Work:
        """Bound every group by a tree, those of the least bounds first."""
        for group in np.argsort(self.bounds):
            enough = self.level if goal == "status" else self.lowest
            if self.is_open and self.bounds[group] <= enough:
                yield from self._follow(group, self._search(group, enough, engine), enough)
                self.programs += 0 if self.tree is None else self.tree.nodes
                self.tree = None

    def _search(self, group: int, enough: float, engine: Engine) -> Generator[Solved, None, None]:
        form = self.goals[group]
        if engine == "highs":
            return least_by_integers(self.encoded.program, form)
        self.tree = Tree(self.solver, form, self.see, self.encoded.region.cut)
        return self.tree.search(enough)

    def _follow(self, group: int, states: Generator[Solved, None, None], enough: float) -> Work:
        """Tell what the states of a group's search bring, until the question is closed or the bound above `enough`."""
        seen = None
        with closing(states):
            for state in states:
                if not self.is_open:
                    return
                self.bounds[group] = max(self.bounds[group], state.bound)
                yield self._bound()
                if state.columns is not None and state.columns is not seen:
                    seen = state.columns
                    yield from self._offer(self.see(seen))
                if self.bounds[group] > enough:
                    return

    def see(self, columns: Array) -> Array:
        """The values of all columns at the input of a solution, put into the threat."""
        x = torch.from_numpy(self.encoded.region.inputs.value(columns)).reshape(self.x0.shape)
        return self.encoded.program.point(self.threat.project(self.x0, x).flatten().numpy())

    def _offer(self, columns: Array) -> Work:
        """A point as a candidate, if its margin is the lowest so far."""
        margin = min(float(goal.value(columns)[0]) for goal in self.goals)
        if margin < self.lowest and self.is_open:
            self.lowest = margin
            x = torch.from_numpy(self.encoded.region.inputs.value(columns)).to(self.problem.x0)
            start = self.problem.x0[self.number : self.number + 1]
            x = self.threat.project(start, x.reshape(start.shape))
            yield Candidate(torch.tensor([self.number]), x)

    def _bound(self) -> Lower:
        least = torch.tensor([self.bounds.min()], dtype=torch.float64)
        counts = (0, 0) if self.tree is None else (self.programs + self.tree.nodes, self.tree.open)
        domains, waiting = (torch.tensor([count]) for count in counts)
        return Lower(torch.tensor([self.number]), least, Grade.FLOAT64, domains, waiting)


def rows_of_group(encoded: Encoded, rows: Rows, group: int) -> Form:
    """The rows of one group as forms; rows: of one question."""
    from scipy.sparse import csr_array

    own = rows.group == group
    return encoded.output.mapped(csr_array(rows.weight[0, own].numpy())).shifted(rows.offset[0, own].numpy())


def largest_of(program: Program, rows: Form) -> Form:
    """The largest of forms, as one: of several a column above them all."""
    if len(rows) == 1:
        return rows
    low = program.least(rows).max(keepdims=True)
    high = -program.least(rows.scaled(-np.ones(len(rows)))).min(keepdims=True)
    top = program.add(low, np.maximum(low, high), lambda columns: rows.value(columns).max(keepdims=True))
    program.constrain(top[np.zeros(len(rows), dtype=int)] - rows, 0.0, np.inf)
    return top
