"""One verifier alone, without attacks, and nothing kept on disk."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from withstand.auditing.plan import seconds_of
from withstand.auditing.question import Question, pose
from withstand.bounds.support import unboundable
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.judge import Judge, Status
from withstand.core.property import Property
from withstand.core.registry import build
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike
from withstand.verification.search import search

BLOCK = 512
"""Samples handled together."""


@dataclass(frozen=True)
class Verified:
    """What one verifier did. counts: samples by verdict. bounds: per sample, the best lower bound on its margin.

    grade: the arithmetic of the proofs (None: there are none).
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

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the lists of samples."""
        held = asdict(self)
        del held["status"], held["bounds"]
        return held


def verify(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    method: str = "crown",
    *,
    property: str | Property = "argmax",
    limit: int | None = None,
    budget: float | str | None = None,
    device: str = "cpu",
    double: bool = False,
) -> Verified:
    """Let one verifier prove what it can about every sample that is right when clean.

    method: as `crown` or with parameters. budget: wall time in seconds or as "10m" (none: to its end). double: compute
    in float64 instead of float32.

    Raises InputError when an input cannot be used, the verifier is unknown or an operator of the model has no bound.
    """
    verifier = build("verifier", method)
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
        wall, cpu = time.perf_counter(), time.process_time()
        judges = [_prove(question, replay, verifier, start, clock) for start in range(0, len(question.data), BLOCK)]
        status = [verdict.value for judge in judges for verdict in judge.status]
        grades = [grade for judge in judges for grade in judge.grade if grade is not None]
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
            bounds=torch.cat([judge.bound for judge in judges]).tolist(),
        )


def _prove(
    question: Question, replay: Callable[[Tensor], Tensor] | None, verifier: Any, start: int, budget: Budget
) -> Judge:
    rows = slice(start, start + BLOCK)
    judge = Judge(question.model, replay, question.x[rows], question.y[rows], question.threat, question.property)
    assert question.model.graph is not None
    search(judge, question.model.graph, [verifier], budget)
    return judge


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
