"""How far each sample holds: its largest proved and smallest refuted radius."""

import hashlib
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from torch import Tensor

from withstand.auditing.frames import frame
from withstand.auditing.plan import seconds_of
from withstand.auditing.question import Question, pose
from withstand.auditing.radius_search import Passes, RadiusSearch, passes
from withstand.auditing.single import in_float64
from withstand.bounds.support import unboundable
from withstand.core.arguments import checked
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.registry import build
from withstand.core.threat import Threat
from withstand.graph.ir import Graph
from withstand.io.data import DataLike
from withstand.io.models import ModelLike
from withstand.io.radii import RadiiFile, SampleRadii
from withstand.verification.ends import End
from withstand.verification.portfolio import portfolio
from withstand.verification.search import TIME_OVER


@dataclass(frozen=True)
class Radii:
    """What is known of the radii of n samples, up to that of the threat.

    right: samples right when clean; mean_proved: over these, 0 for one without a proof (None: there are none).
    witnessed: those of them with a witness; mean_refuted: the mean distance of these (None: there are none).
    unattacked: open samples at which no attack came to look, so that no upper end is measured.
    counts: samples by status (see `SampleRadii`). grades: the arithmetic of the proofs. why: for the method `auto`, the
    verifiers it chose and the reason. samples: in the data's order. witnesses: the nearest input known that violates
    the property, by the sample's number, of the samples of this run.
    """

    n: int
    threat: str
    method: str
    tolerance: float
    clean_accuracy: float
    right: int
    mean_proved: float | None
    witnessed: int
    mean_refuted: float | None
    unattacked: int
    counts: dict[str, int]
    grades: list[str]
    cpu_seconds: float
    seconds: float
    why: str
    samples: list[SampleRadii] = field(repr=False)
    witnesses: dict[int, Tensor] = field(repr=False)

    def certified_accuracy(self, radius: float) -> float:
        """The share of all samples that are proved at a radius."""
        return sum(sample.proved >= radius for sample in self.samples) / self.n

    def attacked_accuracy(self, radius: float) -> float | None:
        """The share of all samples that are right and have no witness within a radius; None where no attack came to
        look at some sample."""
        if self.unattacked:
            return None
        return sum(sample.refuted > radius for sample in self.samples) / self.n

    def to_frame(self) -> Any:
        """The samples as a pandas.DataFrame, one row each. Raises InputError where pandas is not installed."""
        return frame(self.samples)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, the samples with their ends."""
        names = ("n", "threat", "method", "tolerance", "clean_accuracy", "right", "mean_proved", "witnessed")
        names += ("mean_refuted", "unattacked")
        held: dict[str, Any] = {name: getattr(self, name) for name in (*names, "counts", "grades")}
        held |= {"cpu_seconds": self.cpu_seconds, "seconds": self.seconds, "why": self.why}
        shown = ("id", "proved", "refuted", "status", "proved_by", "refuted_by", "seconds", "reason")
        held["samples"] = [{name: _or_none(getattr(sample, name)) for name in shown} for sample in self.samples]
        return held


def _or_none(value: Any) -> Any:
    """None for a radius that there is none of."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@checked
def radius(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    method: str = "auto",
    *,
    property: str | Property = "argmax",
    limit: int | None = None,
    tolerance: float = 0.01,
    budget: float | str | None = None,
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    double: bool = False,
) -> Radii:
    """Find for every sample that is right when clean the largest radius within which it holds, from both sides.

    threat: a ball such as `linf:0.3`, or another threat that has a scale; its radius is the largest one asked about. A
    proof at a radius proves all smaller ones, a witness refutes all radii from its distance on. method: a verifier, or
    `auto`, which goes through several by the network, from cheap to dear. tolerance: the gap between both ends, as a
    share of the refuted radius, at which a sample is done. budget: wall time in seconds or as "10m", loading aside;
    without it, branch and bound has a limit of work a question. out: a CSV file to which a line is added when a sample
    is done; its samples are not asked again. double: compute in float64 instead of float32.

    Raises InputError when an input cannot be used, the threat has no scale or cannot be proved, the method is unknown
    or an operator of the model has no bound.

    >>> import torch, withstand
    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> found = withstand.radius(net, (torch.tensor([[0.8, 0.4]]), torch.tensor([0])), "linf:0.5", tolerance=1e-3)
    >>> [f"{sample.proved:.3f} {sample.refuted:.3f}" for sample in found.samples]
    ['0.200 0.200']
    """
    if not 0 < tolerance < 1:
        raise InputError(f"A tolerance of {tolerance:g} is no share of a radius; give one between 0 and 1, as 0.01.")
    named = None if method == "auto" else build("verifier", method)
    seconds = None if budget is None else seconds_of(budget)
    wall, cpu = time.perf_counter(), time.process_time()
    with pose(model, data, threat, property, limit=limit, device=device) as question, ExitStack() as stack:
        graph = _checked(question)
        replay, digests = question.replay, _digests(question, method, tolerance, seed, double)
        if double:
            question = in_float64(question)
            assert question.model.graph is not None
            graph = question.model.graph
        file = None
        if out is not None:
            file = RadiiFile(out, digests, [TIME_OVER])
            stack.callback(file.close)
        clock = Budget(seconds)
        verifiers, why = _passes(graph, question.threat, named, clock)
        if question.model.differs is not None:
            verifiers, why = (), question.model.differs
        search = RadiusSearch(question, graph, replay, verifiers, tolerance, seed, clock, digests, file)
        search.run()
        return _result(question, search, method, why, tolerance, time.process_time() - cpu, wall)


def _result(
    question: Question, search: RadiusSearch, method: str, why: str, tolerance: float, cpu: float, wall: float
) -> Radii:
    samples = [search.ended[id] for id in question.data.ids]
    right = [sample for sample in samples if sample.status != End.INVALID]
    witnessed = [sample.refuted for sample in right if math.isfinite(sample.refuted)]
    status = [sample.status for sample in samples]
    return Radii(
        n=len(samples),
        threat=str(question.threat),
        method=method,
        tolerance=tolerance,
        clean_accuracy=len(right) / len(samples),
        right=len(right),
        mean_proved=_mean([sample.proved for sample in right]),
        witnessed=len(witnessed),
        mean_refuted=_mean(witnessed),
        unattacked=sum(
            int((block.ends.open & block.ends.refuted.isinf() & ~block.ends.attacked).sum()) for block in search.blocks
        ),
        counts={end.value: status.count(end.value) for end in End},
        grades=sorted({grade.value for block in search.blocks for grade in block.ends.grade if grade is not None}),
        cpu_seconds=cpu,
        seconds=time.perf_counter() - wall,
        why=why,
        samples=samples,
        witnesses={
            id: block.ends.witness[row]
            for block in search.blocks
            for row, id in enumerate(block.ids)
            if block.ends.refuted_by[row]
        },
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _passes(graph: Graph, threat: Threat, named: Any, clock: Budget) -> tuple[Passes, str]:
    """The verifiers with the misses they are allowed, cheap to dear, and why."""
    if named is not None:
        return iter([(named, None)]), ""
    chosen = portfolio(graph, threat, timed=clock.seconds is not None)
    return passes(chosen.verifiers), f"{', '.join(chosen.verifiers)}: {chosen.why}"


def _checked(question: Question) -> Graph:
    """The model's graph. Raises InputError where the question has no radii or no bounds."""
    threat = question.threat
    if not threat.provable:
        raise InputError(f"Nothing can be proved about the threat {threat}; use `withstand attack --closest`.")
    if not threat.anchored:
        raise InputError(f"The threat {threat} has no radius; name a ball around the samples, as linf:0.3.")
    if threat.radius <= 0:
        raise InputError(f"The threat {threat} is the sample alone; its radius is the largest one that is asked about.")
    graph = question.model.graph
    missing = [question.model.why_no_graph or ""] if graph is None else unboundable(graph)
    if missing:
        raise InputError(f"{question.model.name} cannot be verified: {missing[0]}")
    assert graph is not None
    return graph


def _digests(question: Question, method: str, tolerance: float, seed: int, double: bool) -> dict[int, str]:
    """For each sample's number a short text that stands for all that its radii depend on, time aside."""
    asked = (question.model.digest(), question.threat.text(), str(question.property), method, tolerance, seed, double)
    data, found = question.data, {}
    for row, id in enumerate(data.ids):
        told = hashlib.sha256(repr(asked).encode())
        for part in (data.x[row], data.y[row]):
            told.update(part.contiguous().cpu().numpy().tobytes())
        found[id] = told.hexdigest()[:12]
    return found
