"""Drives verifiers under a budget: evidence goes to the judge, and only questions without a verdict are worked on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from withstand.core.budget import Budget, TimeOver
from withstand.core.evidence import Evidence
from withstand.core.judge import Judge, Status, Verdict
from withstand.core.registry import describe
from withstand.graph.ir import Graph
from withstand.verification.memory import prove_within_memory
from withstand.verification.problem import Problem

TIME_OVER = "the time was over"


class Verifier(Protocol):
    """The form of a verifier (see `withstand.core.registry.verifier`).

    `prove` may be left at any moment, and may return a sentence that says why it gave up questions.
    """

    def prove(self, problem: Problem) -> Iterator[Evidence]: ...


def search(
    judge: Judge,
    graph: Graph,
    verifiers: Sequence[Verifier],
    budget: Budget | None = None,
    *,
    rows: Tensor | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> list[Verdict]:
    """Let verifiers work, one after the other, on the judge's open questions; return the verdicts on all of them.

    graph: the network in the type of the judge's x0. budget: wall time (no limit unless given). rows: the questions to
    work on (all unless given). enough: asked after each piece of evidence, ends the search when true.

    Every verdict `unknown` carries the best bound reached and in `reason` what stopped the search.
    """
    budget, stop = budget or Budget(), "no verifier was asked"
    for verifier in verifiers:
        open_rows = judge.open.nonzero().squeeze(1) if rows is None else rows[judge.open[rows]]
        if not len(open_rows) or enough():
            break
        if budget.spent:
            stop = TIME_OVER
            break
        stop = _drive(judge, graph, verifier, open_rows, budget, enough) or f"{describe(verifier)} came to its end"
        if stop == TIME_OVER:
            break
    verdicts = [judge.verdict(row) for row in range(len(judge.x0))]
    return [replace(v, reason=stop) if v.status is Status.UNKNOWN else v for v in verdicts]


def _drive(
    judge: Judge, graph: Graph, verifier: Verifier, rows: Tensor, budget: Budget, enough: Callable[[], bool]
) -> str | None:
    """Hear one verifier out on some rows. Returns what stopped it, None if it simply ended."""
    problem = Problem(graph, judge.x0[rows], judge.y[rows], judge.threat.pick(rows, judge.x0), judge.property)
    steps = prove_within_memory(verifier, problem)
    while not budget.spent:
        try:
            with budget.enforced():
                evidence = next(steps)
        except StopIteration as end:
            return end.value
        except TimeOver:
            break
        judge.hear(replace(evidence, rows=rows[evidence.rows]), describe(verifier))
        problem.open.copy_(judge.open[rows])
        if enough() or not bool(problem.open.any()):
            return None
    return TIME_OVER
