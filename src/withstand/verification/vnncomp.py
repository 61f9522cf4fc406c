"""Answers a VNN-LIB file about an ONNX network as VNN-COMP wants it: sat, unsat, timeout or unknown."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from withstand.attacks.pgd import PGD
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status, Verdict
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.graph.ir import Graph
from withstand.io.vnnlib import Region, read_vnnlib, write_witness
from withstand.verification.cases import gather
from withstand.verification.certificates import store_rows
from withstand.verification.execution import Execution, spread
from withstand.verification.memory import is_out_of_memory
from withstand.verification.network import Network, read_network
from withstand.verification.portfolio import portfolio
from withstand.verification.proof import Proof, proofs_of
from withstand.verification.search import TIME_OVER, search

ATTACK_SHARE = 0.2
"""Share of the time that attacks may take before proofs begin."""

STARTS = 16
"""Random points from which PGD walks in every region."""

POINTS = 2048
"""Points of a region in which onnxruntime runs the network where rounding errors may exceed the margin of a proof."""

UNLIKE = "real arithmetic holds the property, but onnxruntime violates it at a point of the region"
"""Why there is no answer where a proof and the deployed network disagree."""

REAL = "the proof speaks of real arithmetic: the rounding errors of the network as it is run may exceed its margin"
"""What is said beside `unsat` where rounding could matter and sampling found no violation."""

EDGE = "the witness lies on the edge of a comparison, where the file's numbers and those of the network's type differ"
"""Why a witness of the judge may not be one of the file: strict comparisons, and constants that the type rounds."""


@dataclass(frozen=True)
class Answer:
    """result: `sat` (a counterexample exists and was replayed in onnxruntime), `unsat` (the property is proved),
    `timeout`, or `unknown` (the methods ended). witness: the counterexample, as doubles within the file's limits, and
    onnxruntime's outputs at what they are in the network's type. inputs: the counterexample as decimals. bound: the
    best lower bound on the margin over all regions. seconds: wall time. reason: what stopped an undecided search.
    domains: parts that were bounded. certificate: the file of the stored proof or witness.
    """

    result: Literal["sat", "unsat", "timeout", "unknown"]
    seconds: float
    bound: float
    witness: tuple[Tensor, Tensor] | None = None
    reason: str = ""
    domains: int = 0
    certificate: Path | None = None
    inputs: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer as VNN-COMP wants it: the word, and after `sat` the witness."""
        return self.result if self.witness is None else write_witness(self.inputs, self.witness[1]).rstrip("\n")


def decide(
    onnx: str | Path,
    vnnlib: str | Path,
    timeout: float | None = None,
    *,
    verifiers: tuple[str, ...] | None = None,
    certificate: Path | None = None,
    double: bool = False,
    decided: Callable[[Answer], None] = lambda answer: None,
    understood: Callable[[], None] = lambda: None,
    read: Callable[[Path], Network] = read_network,
) -> Answer:
    """Answer whether the network has a counterexample to the VNN-LIB file.

    timeout: wall time in seconds, reading included. verifiers: their texts, tried in order (unless given, those of
    `withstand.verification.portfolio`). certificate: the file, less its ending, in which to store the evidence:
    a witness in VNN-COMP's form ends in `.counterexample`, a checked proof in `.safetensors`, and those of several
    regions lie in a folder without ending. An answer without such a file says why in `reason`. double: bound a network
    of float32 in float64; counterexamples stay inputs that it can be given. decided: is told of the answer before its
    certificate is made, on which the answer does not depend. understood: is told when the files are read. read: what
    reads the network, a cache where many questions are about one. All regions are questions of one batch; one
    counterexample settles the file.

    Raises InputError when a file cannot be read or does not fit the other, or the timeout is no positive number.
    """
    if timeout is not None and not timeout > 0:
        raise InputError(f"The time limit {timeout} is no positive number of seconds; give for example 60.")
    budget = Budget(timeout)
    network = read(Path(onnx))
    kind = str(network.model.dtype).removeprefix("torch.")
    regions = read_vnnlib(vnnlib, network.model.input_shape, math.prod(network.model.output_shape), kind)
    understood()
    if not regions:
        return Answer("unsat", budget.elapsed, math.inf)
    try:
        judge = _judge(network, regions)
        proofs = None if certificate is None else _proofs(network, judge)
        held = None if isinstance(proofs, str) else proofs
        graph = copy.deepcopy(network.graph).double() if double else network.graph
        answer = _search(network, graph, judge, regions, budget, verifiers, held)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return Answer("unknown", budget.elapsed, -math.inf, reason="memory ran out")
    if certificate is None or proofs is None:
        return answer
    decided(answer)
    return _store(answer, certificate, judge, proofs, budget)


def _proofs(network: Network, judge: Judge) -> list[Proof] | str:
    """Empty certificates of the judge's questions, or why there can be none."""
    try:
        return proofs_of(network.checked, judge.threat, judge.property, judge.x0, judge.y)
    except InputError as error:
        return f"no certificate was stored: {error}"


def _search(
    network: Network,
    graph: Graph,
    judge: Judge,
    regions: list[Region],
    budget: Budget,
    verifiers: tuple[str, ...] | None,
    proofs: list[Proof] | None,
) -> Answer:
    chosen = verifiers or portfolio(graph, judge.threat, timed=budget.seconds is not None).verifiers
    if "input-split" not in chosen:  # which attacks by itself
        _attack(judge, budget.share(ATTACK_SHARE))
    built = [build("verifier", text) for text in chosen]
    verdicts = search(judge, graph, built, budget, proofs=proofs, enough=lambda: _refuted(judge))
    if any(verdict.status is not Status.PROVED for verdict in verdicts):
        return _answer(verdicts, regions, network, budget)
    violated = _violated_as_run(network, judge, regions)
    verdicts = [judge.verdict(row) for row in range(len(regions))]
    answer = _answer(verdicts, regions, network, budget)
    if violated and answer.result == "unsat":
        return replace(answer, result="unknown", reason=UNLIKE)
    in_doubt = answer.result == "unsat" and any(judge.executed(row) is False for row in range(len(regions)))
    return replace(answer, reason=REAL) if in_doubt else answer


def _violated_as_run(network: Network, judge: Judge, regions: list[Region]) -> bool:
    """Whether onnxruntime violates a region whose proof may not hold for the network as it is run, at one of many
    points. The judge hears of it."""
    for row, region in enumerate(regions):
        if judge.executed(row) is not False:
            continue
        x = spread(region.deployed, judge.x0[row], POINTS)
        outputs = network.replay(x)
        unsafe = [i for i, output in enumerate(outputs) if region.is_unsafe(output)]
        if unsafe:
            judge.hear(Candidate(torch.tensor([row]), x[unsafe[:1]]), "sampling in onnxruntime")
            return True
    return False


def _answer(verdicts: list[Verdict], regions: list[Region], network: Network, budget: Budget) -> Answer:
    bound, domains = min(v.bound for v in verdicts), sum(v.domains for v in verdicts)
    near = ""
    for verdict, region in zip(verdicts, regions, strict=True):
        if verdict.witness is not None:
            found = _witness(verdict.witness, region, network)
            if not isinstance(found, str):
                x, outputs, inputs = found
                return Answer("sat", budget.elapsed, bound, (x, outputs), inputs=inputs)
            near = near or found
    if near:
        return Answer("unknown", budget.elapsed, bound, reason=near)
    reasons = [v.reason for v in verdicts if v.status is Status.UNKNOWN]
    if not reasons:
        return Answer("unsat", budget.elapsed, bound, domains=domains)
    result = "timeout" if TIME_OVER in reasons else "unknown"
    return Answer(result, budget.elapsed, bound, reason=reasons[0], domains=domains)


def _witness(x: Tensor, region: Region, network: Network) -> tuple[Tensor, Tensor, tuple[str, ...]] | str:
    """A witness of the judge as one of the file: doubles, outputs there and decimals; or why it is none."""
    outputs = network.replay(x[None])[0]
    if not region.is_unsafe(outputs):
        return EDGE
    inputs = region.decimals(x)
    if isinstance(inputs, int):
        value = x.flatten()[inputs].item()
        return f"the counterexample has X_{inputs} = {value!r}, to which no decimal within the file's limits is rounded"
    exact = torch.tensor([float(text) for text in inputs], dtype=torch.float64)
    return exact.reshape(x.shape), outputs, tuple(inputs)


def _store(answer: Answer, certificate: Path, judge: Judge, proofs: list[Proof] | str, budget: Budget) -> Answer:
    """The answer with its witness or its proofs, if it has some, in files."""
    if answer.result == "unsat":
        if isinstance(proofs, str):
            return replace(answer, reason=_joined(proofs, answer.reason), seconds=budget.elapsed)
        rows = range(len(judge.x0))
        with budget.enforced():
            stored = store_rows(judge, rows, proofs, certificate)
        reason = _joined(stored.reason, answer.reason)
        return replace(answer, certificate=stored.path, reason=reason, seconds=budget.elapsed)
    if answer.witness is None:
        return answer
    certificate.parent.mkdir(parents=True, exist_ok=True)
    path = certificate.with_name(certificate.name + ".counterexample")
    path.write_text(answer.text + "\n", "utf-8")
    return replace(answer, certificate=path)


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _judge(network: Network, regions: list[Region]) -> Judge:
    """The judge of the regions, who has heard of the middles of their boxes."""
    threat, property = gather(regions)
    assert threat.lower is not None
    assert threat.upper is not None
    x0 = (threat.lower / 2 + threat.upper / 2).to(network.model.dtype)
    everything = torch.arange(len(regions))
    own = Execution(network.graph, property)
    judge = Judge(network.model, network.replay, threat.project(x0, x0), everything, threat, property, arithmetic=own)
    if bool(judge.clean_outputs.isnan().any()):
        raise InputError(f"The network {network.model.name} answers NaN in the middle of the input box; mend it first.")
    judge.hear(Candidate(everything, judge.x0), "the middle of the box")
    return judge


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
