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
from withstand.verification.nested import Nested
from withstand.verification.problem import Problem
from withstand.verification.proof import Proof

TIME_OVER = "the time was over"


class Verifier(Protocol):
    """The form of a verifier (see `withstand.core.registry.verifier`).

    `prove` may be left at any moment, and may return a sentence that says why it gave up questions. A ClassVar is
    optional: `searches`, whether it works on a question until its bound is above zero, and no further.
    """

    def prove(self, problem: Problem) -> Iterator[Evidence]: ...


def search(
    judge: Judge,
    graph: Graph,
    verifiers: Sequence[Verifier],
    budget: Budget | None = None,
    *,
    rows: Tensor | None = None,
    proofs: Sequence[Proof] | None = None,
    enough: Callable[[], bool] = lambda: False,
    nested: Nested | None = None,
) -> list[Verdict]:
    """Let verifiers work, one after the other, on the judge's open questions; return the verdicts on all of them.

    graph: the network, in whose type verifiers compute. budget: wall time (no limit unless given). rows: the questions
    to work on (all unless given). proofs: one for each of the judge's questions, to be filled by the verifiers that
    write certificates (`Proof.begun` says whether the last one did). enough: asked after each piece of evidence, ends
    the search when true. nested: what the judge's questions share with those about other radii.

    Every verdict `unknown` carries the best bound reached and in `reason` what stopped the search. Where the judge's
    model is another function than its graph, no verifier is asked, and the reason says so.
    """
    budget, stop = budget or Budget(), judge.differs or "no verifier was asked"
    verifiers = verifiers if judge.differs is None else ()
    for verifier in verifiers:
        open_rows = judge.open.nonzero().squeeze(1) if rows is None else rows[judge.open[rows]]
        if not len(open_rows) or enough():
            break
        if budget.spent:
            stop = TIME_OVER
            break
        stop = _drive(judge, graph, verifier, open_rows, budget, proofs, enough, nested)
        stop = stop or f"{describe(verifier)} came to its end"
        if stop == TIME_OVER:
            break
    verdicts = [judge.verdict(row) for row in range(len(judge.x0))]
    return [replace(v, reason=stop) if v.status is Status.UNKNOWN else v for v in verdicts]


def _drive(
    judge: Judge,
    graph: Graph,
    verifier: Verifier,
    rows: Tensor,
    budget: Budget,
    proofs: Sequence[Proof] | None,
    enough: Callable[[], bool],
    nested: Nested | None,
) -> str | None:
    """Hear one verifier out on some rows. Returns what stopped it, None if it simply ended."""
    mine = None if proofs is None else [proofs[row] for row in rows.tolist()]
    for proof in mine or ():
        proof.forget()
    threat, shared = judge.threat.pick(rows, judge.x0), None if nested is None else nested.pick(rows)
    problem = Problem(graph, judge.x0[rows].to(graph.dtype), judge.y[rows], threat, judge.property, mine, shared)
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
