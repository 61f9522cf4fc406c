"""One verifier alone, without attacks, and nothing kept on disk."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from withstand.auditing.plan import seconds_of
from withstand.auditing.question import Question, pose
from withstand.bounds.support import unboundable
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.judge import Judge, Status, Verdict
from withstand.core.property import Property
from withstand.core.registry import build
from withstand.core.threat import Threat
from withstand.graph.ir import Graph
from withstand.io.data import DataLike
from withstand.io.models import ModelLike
from withstand.verification.portfolio import portfolio
from withstand.verification.search import search

BLOCK = 512
"""Samples handled together."""


@dataclass(frozen=True)
class Verified:
    """What verifiers did. counts: samples by verdict. grade: the arithmetic of the proofs (None: there are none).

    why: for the method `auto`, the verifiers it chose and the reason. Per sample: status, bounds (the best lower bound
    on its margin), domains (parts of its threat that a search bounded), open (parts it left) and reasons (what stopped
    the search, where the sample is unknown).
    """

    n: int
    method: str
    clean_accuracy: float
    certified_accuracy: float
    counts: dict[str, int]
    grade: str | None
    cpu_seconds: float
    seconds: float
    status: list[str]
    bounds: list[float]
    why: str = ""
    domains: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the lists of samples."""
        held = asdict(self)
        for name in ("status", "bounds", "domains", "open", "reasons"):
            del held[name]
        return held


def verify(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    property: str | Property = "argmax",
    *,
    method: str = "auto",
    limit: int | None = None,
    budget: float | str | None = None,
    device: str = "cpu",
    double: bool = False,
) -> Verified:
    """Let a verifier prove what it can about every sample that is right when clean.

    method: as `crown` or with parameters; `auto` chooses several by the network (`withstand.verification.portfolio`).
    budget: wall time in seconds or as "10m" (none: to its end). double: compute in float64 instead of float32.

    Raises InputError when an input cannot be used, the verifier is unknown or an operator of the model has no bound.
    """
    named = None if method == "auto" else build("verifier", method)
    clock = Budget(None if budget is None else seconds_of(budget))
    with pose(model, data, threat, property, limit=limit, device=device) as question:
        if not question.threat.provable:
            raise InputError(f"Nothing can be proved about the threat {question.threat}; use `withstand attack`.")
        replay = question.replay
        if double:
            question = in_float64(question)
        graph = question.model.graph
        missing = [question.model.why_no_graph or ""] if graph is None else unboundable(graph)
        if missing:
            raise InputError(f"{question.model.name} cannot be verified: {missing[0]}")
        assert graph is not None
        verifiers, why = ([named], "") if named is not None else _chosen(graph, question.threat, clock)
        wall, cpu = time.perf_counter(), time.process_time()
        starts = range(0, len(question.data), BLOCK)
        verdicts = [verdict for start in starts for verdict in _prove(question, replay, verifiers, start, clock)]
        status = [verdict.status.value for verdict in verdicts]
        grades = [verdict.grade for verdict in verdicts if verdict.grade is not None]
        n = len(status)
        counts = {verdict.value: status.count(verdict.value) for verdict in Status}
        return Verified(
            n=n,
            method=method,
            clean_accuracy=1 - counts["invalid"] / n,
            certified_accuracy=counts["proved"] / n,
            counts=counts,
            grade=grades[0].value if grades else None,
            cpu_seconds=time.process_time() - cpu,
            seconds=time.perf_counter() - wall,
            status=status,
            bounds=[verdict.bound for verdict in verdicts],
            why=why,
            domains=[verdict.domains for verdict in verdicts],
            open=[verdict.open for verdict in verdicts],
            reasons=[verdict.reason for verdict in verdicts],
        )


def _chosen(graph: Graph, threat: Threat, budget: Budget) -> tuple[list[Any], str]:
    """The verifiers of `auto`, and which they are and why."""
    chosen = portfolio(graph, threat, timed=budget.seconds is not None)
    return [build("verifier", text) for text in chosen.verifiers], f"{', '.join(chosen.verifiers)}: {chosen.why}"


def _prove(
    question: Question, replay: Callable[[Tensor], Tensor] | None, verifiers: list[Any], start: int, budget: Budget
) -> list[Verdict]:
    rows = slice(start, start + BLOCK)
    judge = Judge(question.model, replay, question.x[rows], question.y[rows], question.threat, question.property)
    assert question.model.graph is not None
    return search(judge, question.model.graph, verifiers, budget)


def in_float64(question: Question) -> Question:
    """The same question with inputs and a copy of the graph in float64."""
    import copy
    from dataclasses import replace

    graph = question.model.graph
    if graph is None:
        raise InputError(f"{question.model.name} has no graph: {question.model.why_no_graph}")
    graph = copy.deepcopy(graph).double()
    data = replace(question.data, x=question.data.x.double())
    return replace(question, model=replace(question.model, graph=graph, module=graph), data=data)
