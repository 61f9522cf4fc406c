"""Answers a VNN-LIB file about an ONNX network as VNN-COMP wants it: sat, unsat, timeout or unknown."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from withstand.attacks.pgd import PGD
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status
from withstand.core.property import Property, Rows
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.graph.model import Model
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.replay import OnnxSession
from withstand.io.vnnlib import Region, read_vnnlib, write_witness
from withstand.verification.search import TIME_OVER, search

FEW_INPUTS = 20
"""Networks of at most so many inputs are verified by splitting their input box."""

ATTACK_SHARE = 0.2
"""Share of the time that attacks may take before proofs begin, on networks of more inputs."""

STARTS = 16
"""Random points from which PGD walks in every region."""


@dataclass(frozen=True)
class Answer:
    """result: `sat` (a counterexample exists and was replayed in onnxruntime), `unsat` (the property is proved),
    `timeout`, or `unknown` (the methods ended). witness: the counterexample and onnxruntime's outputs there. bound: the
    best lower bound on the margin over all regions. seconds: wall time. reason: what stopped an undecided search.
    """

    result: Literal["sat", "unsat", "timeout", "unknown"]
    seconds: float
    bound: float
    witness: tuple[Tensor, Tensor] | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The answer as VNN-COMP wants it: the word, and after `sat` the witness."""
        return self.result if self.witness is None else write_witness(*self.witness).rstrip("\n")


@dataclass(frozen=True)
class Cases(Property):
    """Linear rows that differ by question: weight [Q, R, O], offset [Q, R], group [R]; y is the question's number."""

    weight: Tensor
    offset: Tensor
    group: Tensor

    def __str__(self) -> str:
        return f"cases:{len(self.weight)}"

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        if self.weight.shape[2] != outputs:
            raise InputError(f"The property speaks of {self.weight.shape[2]} outputs, the model has {outputs}.")
        weight, offset = (t.to(y.device)[y].to(dtype) for t in (self.weight, self.offset))
        return Rows(weight, offset, self.group.to(y.device))


def decide(
    onnx: str | Path, vnnlib: str | Path, timeout: float | None = None, *, verifiers: tuple[str, ...] | None = None
) -> Answer:
    """Answer whether the network has a counterexample to the VNN-LIB file.

    timeout: wall time in seconds, reading included. verifiers: their texts, tried in order (unless given, `input-split`
    up to 20 inputs, else `ibp` and `crown`). All regions are questions of one batch; one counterexample settles the
    file.

    Raises InputError when a file cannot be read or does not fit the other.
    """
    budget = Budget(timeout)
    model = read_onnx(onnx)
    regions = read_vnnlib(vnnlib, model.input_shape)
    if not regions:
        return Answer("unsat", budget.elapsed, math.inf)
    judge = _judge(model, Path(onnx), regions)
    everything = torch.arange(len(regions))
    judge.hear(Candidate(everything, judge.x0), "the middle of the box")
    few = math.prod(model.input_shape) <= FEW_INPUTS
    if not few:
        _attack(judge, budget.share(ATTACK_SHARE))
    chosen = verifiers or (("input-split",) if few else ("ibp", "crown"))
    assert model.graph is not None
    verdicts = search(
        judge, model.graph, [build("verifier", text) for text in chosen], budget, enough=lambda: _refuted(judge)
    )
    bound = min(v.bound for v in verdicts)
    for verdict in verdicts:
        if verdict.witness is not None:
            outputs = judge.replay(verdict.witness[None])[0]
            return Answer("sat", budget.elapsed, bound, (verdict.witness, outputs))
    reasons = [v.reason for v in verdicts if v.status is Status.UNKNOWN]
    if not reasons:
        return Answer("unsat", budget.elapsed, bound)
    return Answer("timeout" if TIME_OVER in reasons else "unknown", budget.elapsed, bound, reason=reasons[0])


def gather(regions: list[Region]) -> tuple[Box, Cases]:
    """Regions as one threat and one property, the q-th region being the question of row q with target q.

    Every region gets the same layout of rows: its groups filled up by their own first row, its missing groups by its
    first group, neither of which changes its margin.
    """
    lower, upper = (torch.stack([getattr(r.threat, edge) for r in regions]) for edge in ("lower", "upper"))
    counts = [torch.bincount(r.property.group).tolist() for r in regions]
    sizes = [max(c[k] if k < len(c) else c[0] for c in counts) for k in range(max(map(len, counts)))]
    weight, offset = [], []
    for region in regions:
        group = region.property.group
        order = []
        for number, size in enumerate(sizes):
            own = (group == (number if number <= int(group.max()) else 0)).nonzero().squeeze(1).tolist()
            order += own + own[:1] * (size - len(own))
        weight.append(region.property.weight[order])
        offset.append(region.property.offset[order])
    layout = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return Box(lower=lower, upper=upper), Cases(torch.stack(weight), torch.stack(offset), layout)


def _judge(model: Model, onnx: Path, regions: list[Region]) -> Judge:
    threat, property = gather(regions)
    assert threat.lower is not None
    assert threat.upper is not None
    x0 = ((threat.lower + threat.upper) / 2).float()
    session = OnnxSession(onnx)

    def replay(x: Tensor) -> Tensor:
        return torch.from_numpy(session(x.numpy()))

    return Judge(model, replay, threat.project(x0, x0), torch.arange(len(regions)), threat, property)


def _refuted(judge: Judge) -> bool:
    return Status.REFUTED in judge.status


def _attack(judge: Judge, budget: Budget) -> None:
    """PGD from random points of every region, until one is refuted or the time is over."""
    for row in range(len(judge.x0)):
        if _refuted(judge) or budget.spent:
            return
        threat = judge.threat.pick(torch.tensor(row), judge.x0)
        start, y = judge.x0[row].expand(STARTS, *judge.x0[row].shape), judge.y[row].expand(STARTS)
        found = run(PGD(steps=100, step=0.05), judge.model, start, y, threat, judge.property, budget=budget)
        judge.hear(Candidate(torch.full((STARTS,), row), found.x), "pgd")
