"""One verifier alone, without attacks, and nothing kept on disk but certificates where they are wanted."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from withstand.auditing.frames import frame
from withstand.auditing.plan import seconds_of
from withstand.auditing.question import Question, pose
from withstand.auditing.shelf import Shelf
from withstand.bounds.support import unboundable
from withstand.core.arguments import checked
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.judge import RANK, Judge, Status, Verdict
from withstand.core.property import Property
from withstand.core.registry import build
from withstand.core.threat import Threat
from withstand.graph.ir import Graph
from withstand.io.data import DataLike
from withstand.io.models import ModelLike
from withstand.lipschitz.constants import POINTS, Constants, constants
from withstand.verification.execution import Execution
from withstand.verification.methods.lipschitz import Lipschitz
from withstand.verification.portfolio import portfolio
from withstand.verification.search import search

BLOCK = 512
"""Samples handled together."""


@dataclass(frozen=True)
class Verified:
    """What verifiers did. counts: samples by verdict. grade: the arithmetic of the proofs, of the weakest one (None:
    there are none). executed: proofs that surely hold for the network as it is run in its own float type, rounding
    errors included (None: there are no proofs).

    why: for the method `auto`, the verifiers it chose and the reason. Per sample: status, bounds (the best lower bound
    on its margin), domains (parts of its threat that a search bounded), open (parts it left), reasons (what stopped
    the search, where the sample is unknown; why there is no certificate, where one was wanted) and certificates (the
    files of proofs that were checked, and of witnesses). constants: those in l2, for the method `lipschitz`.
    ids: the numbers of the samples in the data.
    """

    n: int
    method: str
    clean_accuracy: float
    certified_accuracy: float
    counts: dict[str, int]
    grade: str | None
    executed: int | None
    cpu_seconds: float
    seconds: float
    status: list[str]
    bounds: list[float]
    why: str = ""
    domains: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)
    constants: Constants | None = None
    ids: list[int] = field(default_factory=list)

    def to_frame(self) -> Any:
        """The samples as a pandas.DataFrame, one row each. Raises InputError where pandas is not installed."""
        names = {"status": "status", "bounds": "bound", "domains": "domains", "open": "open", "reasons": "reason"}
        lists = {one: getattr(self, name) for name, one in {**names, "certificates": "certificate"}.items()}
        held = {"id": self.ids, **{name: values for name, values in lists.items() if values}}
        return frame([dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)])

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the lists of samples."""
        held = asdict(self)
        for name in ("status", "bounds", "domains", "open", "reasons", "certificates", "ids"):
            del held[name]
        return held


@checked
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
    certificates: str | PathLike[str] | None = None,
) -> Verified:
    """Let a verifier prove what it can about every sample that is right when clean.

    method: as `crown` or with parameters; `auto` chooses several by the network (`withstand.verification.portfolio`).
    budget: wall time in seconds or as "10m", loading aside (none: to its end). double: compute in float64 instead of
    float32. certificates: a folder for the model (model.onnx), a checked certificate of each proved sample
    (<id>.safetensors) and the witness of each that a verifier refutes (<id>.npz).

    Raises InputError when an input cannot be used, the verifier is unknown or an operator of the model has no bound.
    """
    named = None if method == "auto" else build("verifier", method)
    seconds = None if budget is None else seconds_of(budget)
    with pose(model, data, threat, property, limit=limit, device=device) as question:
        if not question.threat.provable:
            raise InputError(f"Nothing can be proved about the threat {question.threat}; use `withstand attack`.")
        replay, clock = question.replay, Budget(seconds)
        shelf = None if certificates is None else Shelf(question, Path(certificates), clock)
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
        verdicts = [v for start in starts for v in _prove(question, replay, verifiers, start, clock, shelf)]
        files = [] if shelf is None else shelf.files
        found = _summed(method, why, verdicts, files, time.process_time() - cpu, time.perf_counter() - wall)
        found = replace(found, ids=list(question.data.ids))
        if isinstance(named, Lipschitz):
            found = replace(found, constants=constants(graph, "l2", question.x[:POINTS]))
        return found


def _summed(
    method: str, why: str, verdicts: list[Verdict], files: list[str], cpu_seconds: float, seconds: float
) -> Verified:
    status = [verdict.status.value for verdict in verdicts]
    grades = [verdict.grade for verdict in verdicts if verdict.grade is not None]
    asked = [verdict.executed for verdict in verdicts if verdict.executed is not None]
    counts = {verdict.value: status.count(verdict.value) for verdict in Status}
    return Verified(
        n=len(status),
        method=method,
        clean_accuracy=1 - counts["invalid"] / len(status),
        certified_accuracy=counts["proved"] / len(status),
        counts=counts,
        grade=min(grades, key=RANK.__getitem__).value if grades else None,
        executed=sum(asked) if asked else None,
        cpu_seconds=cpu_seconds,
        seconds=seconds,
        status=status,
        bounds=[verdict.bound for verdict in verdicts],
        why=why,
        domains=[verdict.domains for verdict in verdicts],
        open=[verdict.open for verdict in verdicts],
        reasons=[verdict.reason for verdict in verdicts],
        certificates=files,
    )


def _chosen(graph: Graph, threat: Threat, budget: Budget) -> tuple[list[Any], str]:
    """The verifiers of `auto`, and which they are and why."""
    chosen = portfolio(graph, threat, timed=budget.seconds is not None)
    return [build("verifier", text) for text in chosen.verifiers], f"{', '.join(chosen.verifiers)}: {chosen.why}"


def _prove(
    question: Question,
    replay: Callable[[Tensor], Tensor] | None,
    verifiers: list[Any],
    start: int,
    budget: Budget,
    shelf: Shelf | None,
) -> list[Verdict]:
    rows = slice(start, start + BLOCK)
    graph = question.model.graph
    assert graph is not None
    x0, y, own = question.x[rows], question.y[rows], Execution(graph, question.property)
    judge = Judge(question.model, replay, x0, y, question.threat, question.property, arithmetic=own)
    proofs = None if shelf is None else shelf.proofs(judge)
    verdicts = search(judge, graph, verifiers, budget, proofs=proofs)
    kept = verdicts if shelf is None else shelf.keep(judge, verdicts, proofs, start)
    return [replace(verdict, executed=judge.executed(row)) for row, verdict in enumerate(kept)]


def in_float64(question: Question) -> Question:
    """The same question with inputs and a copy of the graph in float64."""
    import copy

    graph = question.model.graph
    if graph is None:
        raise InputError(f"{question.model.name} has no graph: {question.model.why_no_graph}")
    wide = copy.deepcopy(graph).double()
    wide.keep_origin(graph.origin or graph)
    data = replace(question.data, x=question.data.x.double())
    return replace(question, model=replace(question.model, graph=wide), data=data)
