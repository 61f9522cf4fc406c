"""Attacks alone: any list of them, each one's figures and the pointwise worst case."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from withstand.auditing.plan import seconds_of
from withstand.auditing.question import Question, pose
from withstand.core.budget import Budget
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status
from withstand.core.property import Property
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike

BLOCK = 512
"""Samples handled together."""


@dataclass(frozen=True)
class AttackFigures:
    """One attack on its own. median_distance: of its witnesses, in the threat's norm (None: it found none)."""

    attacked_accuracy: float
    median_distance: float | None
    queries: int
    gradients: int
    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class Attacked:
    """What attacks did. attacked_accuracy: share of the n samples that withstood all (the pointwise worst case).

    attacks: each attack's own figures, by its text. refuted: per sample, whether any attack refuted it.
    """

    n: int
    clean_accuracy: float
    attacked_accuracy: float
    attacks: dict[str, AttackFigures]
    refuted: list[bool]

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, without the list of samples."""
        held = asdict(self)
        del held["refuted"]
        return held


def attack(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    attacks: Sequence[str] = ("pgd",),
    *,
    property: str | Property = "argmax",
    limit: int | None = None,
    budget: float | str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Attacked:
    """Run each attack on every sample that is right when clean; witnesses count once onnxruntime confirms them.

    attacks: as `pgd:steps=100,restarts=5`. budget: wall time each attack may take, in seconds or as "10m" (none: to
    its end).

    Raises InputError when an input cannot be used, or an attack is unknown or does not work in the threat's norm.
    """
    built = {text: build("attack", text) for text in attacks}
    seconds = None if budget is None else seconds_of(budget)
    with pose(model, data, threat, property, limit=limit, device=device) as question:
        n, refuted, right = len(question.data), torch.zeros(len(question.data), dtype=torch.bool), 0
        figures = {}
        for text, method in built.items():
            one, hit, right = _attack(question, text, method, Budget(seconds), seed)
            figures[text] = one
            refuted |= hit
        return Attacked(n, right / n, (right - int(refuted.sum())) / n, figures, refuted.tolist())


def _attack(question: Question, text: str, method: Any, budget: Budget, seed: int) -> tuple[AttackFigures, Tensor, int]:
    wall, cpu = time.perf_counter(), time.process_time()
    hit, right, queries, gradients, distances = [], 0, 0, 0, []
    ids = question.data.ids
    for start in range(0, len(question.data), BLOCK):
        rows = slice(start, start + BLOCK)
        x0, y = question.x[rows], question.y[rows]
        found = run(
            method, question.model, x0, y, question.threat, question.property, ids=ids[rows], seed=seed, budget=budget
        )
        judge = Judge(question.model, question.replay, x0, y, question.threat, question.property)
        refuted = found.refuted.nonzero().squeeze(1)
        judge.hear(Candidate(refuted, found.x[refuted]), text)
        judged = torch.tensor([status is Status.REFUTED for status in judge.status])
        hit.append(judged)
        right += sum(status is not Status.INVALID for status in judge.status)
        queries += int(found.queries.sum()) + 2 * len(refuted)
        gradients += int(found.gradients.sum())
        distances.append(question.threat.distance(x0, judge.point).cpu()[judged])
    far, refuted_all = torch.cat(distances), torch.cat(hit)
    figures = AttackFigures(
        attacked_accuracy=(right - int(refuted_all.sum())) / len(question.data),
        median_distance=float(far.median()) if len(far) else None,
        queries=queries,
        gradients=gradients,
        cpu_seconds=time.process_time() - cpu,
        seconds=time.perf_counter() - wall,
    )
    return figures, refuted_all, right
