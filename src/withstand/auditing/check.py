"""The independent re-check of a run folder: recount, replay every witness, check every certificate by the checker, and
recompute every other proof in float64."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from withstand.auditing.figures import curve, summarise
from withstand.auditing.question import Question, pose
from withstand.auditing.runfolder import RunFolder
from withstand.auditing.single import in_float64
from withstand.auditing.stages import patiently
from withstand.auditing.universal import without_first
from withstand.checker.check import check as check_certificate
from withstand.checker.check import holds_as_run
from withstand.checker.file import load
from withstand.checker.reading import read_network
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.judge import Judge, Status
from withstand.core.records import RunRecord, SampleRecord, Summary
from withstand.core.registry import build, describe
from withstand.io.data import DataLike
from withstand.io.models import ModelLike
from withstand.io.witness import load_witness, replay
from withstand.io.written import Written
from withstand.verification.execution import Execution
from withstand.verification.proof import proofs_of
from withstand.verification.search import search


@dataclass(frozen=True)
class Rechecked:
    """What was checked, and a sentence for every failure. certificates: how many of the proofs have one."""

    samples: int
    witnesses: int
    proofs: int
    certificates: int
    failures: list[str]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "ok": self.ok}


@checked
def check(
    run: str | PathLike[str],
    model: "ModelLike | None" = None,
    data: "DataLike | None" = None,
    *,
    trust: bool = False,
) -> Rechecked:
    """Check a run folder without trusting the run: every figure, witness and proof is computed again.

    model, data: needed where the run was on objects in memory; otherwise those that its plan names. trust: code that
    the run's files name may run, if it is declared (see `withstand.factory`).

    Raises InputError when the folder is no run, it names code and is not trusted, or model or data cannot be loaded.
    """
    folder = RunFolder(run)
    record = folder.read_run()
    if record is None:
        raise InputError(f"{folder.path} is no run folder (it has no run.json); give the folder of an audit.")
    samples = folder.read_samples()
    plan = record.plan
    deployed, said = folder.path / "model.onnx", str(folder.run_file)
    own = deployed if deployed.is_file() else Written(plan.model, said, trust)
    source = own if model is None else model
    given = plan.data if data is None else data
    with pose(source, given, plan.threat, Written(plan.property, said, trust), limit=plan.limit) as whole:
        question = without_first(whole, plan.skip)
        failures = [*_recount(record, samples), *_same_question(record, question, source is not deployed)]
        proved = [sample for sample in samples if sample.status == "proved"]
        claims = [claim for sample in samples for claim in _claims(sample)]
        for claim in claims:
            failures += _witness(folder.path, claim, question, trust)
        failures += _attacks(samples)
        failures += [] if plan.draws > 1 else _clean(samples, question)
        certified = [sample for sample in proved if sample.certificate is not None]
        failures += _certificates(folder.path, certified, question)
        failures += _executions(folder.path, [sample for sample in proved if sample.executed], question)
        failures += _proofs(record, [sample for sample in proved if sample.certificate is None], question)
    return Rechecked(len(samples), len(claims), len(proved), len(certified), failures)


@dataclass(frozen=True)
class _Claim:
    """A witness that a record names: of a sample, by one attack where each had its own go."""

    name: str
    sample: int
    file: str | None
    distance: float | None


def _claims(sample: SampleRecord) -> Iterator[_Claim]:
    if sample.status == "refuted" and not sample.attacks:
        yield _Claim(f"The witness of sample {sample.id}", sample.id, sample.witness, sample.distance)
    for text, one in sample.attacks.items():
        if one.refuted:
            yield _Claim(f"The witness of sample {sample.id} by {text}", sample.id, one.witness, one.distance)


def _attacks(samples: list[SampleRecord]) -> Iterator[str]:
    """Whether each sample's verdict is that of its attacks, where each had its own go."""
    for sample in samples:
        files = {one.witness for one in sample.attacks.values() if one.refuted}
        if sample.attacks and (sample.status == "refuted") != bool(files):
            yield f"Sample {sample.id} is recorded as {sample.status}, its attacks say otherwise."
        elif files and sample.witness not in files:
            yield f"The witness of sample {sample.id} is that of none of its attacks."


def _recount(record: RunRecord, samples: list[SampleRecord]) -> Iterator[str]:
    if len({sample.id for sample in samples}) != len(samples):
        yield "samples.jsonl holds a sample twice."
    if record.state == "complete" and len(samples) != record.samples:
        yield f"run.json says the run of {record.samples} samples is complete, samples.jsonl holds {len(samples)}."
    cut = [sample.id for sample in samples if sample.cut]
    if record.state == "complete" and cut:
        yield f"run.json says the run is complete, but time kept a method from the end on {len(cut)} samples."
    held = record.summary
    if held is None:
        yield "run.json holds no summary."
        return
    told = summarise(samples, held.seconds, record.checks, proofs=record.plan.verb == "audit")
    for name in Summary.model_fields:
        if name not in ("peak_memory_mb", "seconds") and getattr(held, name) != getattr(told, name):
            yield f"run.json says {name} is {getattr(held, name)}, the samples give {getattr(told, name)}."
    if curve(samples, [point.radius for point in record.curve]) != record.curve:
        yield "The curve in run.json is not that of the samples."


def _same_question(record: RunRecord, question: Question, original: bool) -> Iterator[str]:
    if original and question.model.digest() != record.origin.model_digest:
        yield f"The model {question.model.name} is not the one of the run (its weights or structure differ)."
    if question.data.digest() != record.origin.data_digest:
        yield f"The data {question.data.name} is not that of the run."


def _clean(samples: list[SampleRecord], question: Question) -> Iterator[str]:
    """Samples wrong when clean, and those right, checked in the replayed model."""
    ask = question.replay or question.model
    where = {sample_id: row for row, sample_id in enumerate(question.data.ids)}
    known = [sample for sample in samples if sample.id in where]
    for sample in samples:
        if sample.id not in where:
            yield f"Sample {sample.id} is not in the data."
    for start in range(0, len(known), 256):
        part = known[start : start + 256]
        rows = [where[sample.id] for sample in part]
        with torch.no_grad():
            margins = question.property.margin(ask(question.x[rows]), question.y[rows]).tolist()
        for sample, margin in zip(part, margins, strict=True):
            if (margin <= 0) != (sample.status == "invalid") and abs(margin) > 1e-4:
                yield f"Sample {sample.id} is recorded as {sample.status}, but its clean margin is {margin:.4g}."


def _witness(folder: Path, claim: _Claim, question: Question, trust: bool) -> Iterator[str]:
    name = claim.name
    if claim.file is None or not (folder / claim.file).is_file():
        yield f"{name} is missing."
        return
    if not _inside(folder, claim.file):
        yield f"{name} lies outside the run folder, and is not read."
        return
    try:
        held = load_witness(folder / claim.file)
        told = replay(folder / claim.file, question.model, trust=trust)
    except InputError as error:
        yield f"{name} cannot be replayed: {error}"
        return
    threat = question.threat
    asked = (claim.sample, threat.norm, threat.radius, threat.limits, threat.domain, threat.levels or 0)
    told_of = (held.id, held.norm, held.radius, held.limits, held.domain, held.levels)
    if (*told_of, held.property) != (*asked, str(question.property)):
        yield f"{name} is of another question than the run's."
    if not told.reproduced:
        yield f"{name} fails its replay: {told.sentence}"
    if claim.distance is None or abs(told.distance - claim.distance) > 1e-6 * max(1.0, told.distance):
        yield f"{name} lies at distance {told.distance:.6g}, the record says {claim.distance}."
    if claim.sample in question.data.ids:
        clean = question.x[question.data.ids.index(claim.sample)].cpu().numpy()
        if not np.array_equal(clean, held.x0):
            yield f"{name} starts from another input than the data's."


def _inside(folder: Path, name: str) -> bool:
    """Whether a file that a record names lies in the run folder, links followed."""
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _certificates(folder: Path, certified: list[SampleRecord], question: Question) -> Iterator[str]:
    """Whether each certificate is of the sample's question, and holds."""
    if not certified:
        return
    if question.onnx is None:
        yield f"{len(certified)} certificates cannot be checked: {question.model.why_no_graph}"
        return
    network = read_network(question.onnx)
    where = {sample_id: row for row, sample_id in enumerate(question.data.ids)}
    for sample in certified:
        if sample.id not in where:
            continue
        name, path = f"The certificate of sample {sample.id}", folder / str(sample.certificate)
        if not _inside(folder, str(sample.certificate)):
            yield f"{name} lies outside the run folder, and is not read."
            continue
        rows = slice(where[sample.id], where[sample.id] + 1)
        asked = proofs_of(network, question.threat, question.property, question.x[rows], question.y[rows])[0]
        try:
            held = load(path)
            report = check_certificate(held, network)
        except InputError as error:
            yield f"{name} cannot be used: {error}"
            continue
        if not asked.is_of(held):
            yield f"{name} is of another question than the run's."
        if not report.holds:
            yield f"{name} fails: {report.failure}"
        if sample.grade != report.grade:
            yield f"Sample {sample.id} is recorded as proved in {sample.grade}, its certificate has another grade."


def _executions(folder: Path, samples: list[SampleRecord], question: Question) -> Iterator[str]:
    """Whether proofs said to hold for the network as it is run do so: by bounds above its rounding errors, or by
    certificates."""
    graph, where = question.model.graph, {sample_id: row for row, sample_id in enumerate(question.data.ids)}
    samples = [sample for sample in samples if sample.id in where and sample.bound is not None]
    if graph is None or not samples:
        return
    rows = torch.tensor([where[sample.id] for sample in samples])
    bounds = torch.tensor([sample.bound for sample in samples], dtype=torch.float64)
    own = Execution(graph, question.property)
    radii = own.radii(question.x[rows], question.y[rows], question.threat.pick(rows, question.x), bounds)
    for sample, radius in zip(samples, radii.tolist(), strict=True):
        if sample.bound is None or radius < sample.bound:
            continue
        named = sample.certificate
        if named is None or not _inside(folder, named) or not _as_run(folder / named, question):
            yield f"The proof of sample {sample.id} is said to hold for the network as it is run, but may not."


def _as_run(certificate: Path, question: Question) -> bool:
    try:
        return question.onnx is not None and holds_as_run(load(certificate), read_network(question.onnx))
    except InputError:
        return False


def _proofs(record: RunRecord, proved: list[SampleRecord], question: Question) -> Iterator[str]:
    """Each proof once more in float64, by the verifier that gave it."""
    # Without limits of work, of which float64 may need a little more, and which an audit with time to spare lifts.
    built = [build("verifier", text) for text in record.plan.verifiers]
    planned = {describe(one): patiently(one) for verifier in built for one in (verifier, patiently(verifier))}
    where = {sample_id: row for row, sample_id in enumerate(question.data.ids)}
    if not proved:
        return
    if question.model.graph is None:
        yield f"{len(proved)} proofs cannot be recomputed: {question.model.why_no_graph}"
        return
    double = in_float64(question)
    assert double.model.graph is not None
    for method in sorted({str(sample.method) for sample in proved}):
        mine = [sample for sample in proved if sample.method == method and sample.id in where]
        if method not in planned:
            yield f"{len(mine)} samples are proved by {method}, which the plan does not hold."
            continue
        rows = torch.tensor([where[sample.id] for sample in mine])
        judge = Judge(double.model, None, double.x[rows], double.y[rows], double.threat, double.property)
        search(judge, double.model.graph, [planned[method]])
        for sample, status, bound in zip(mine, judge.status, judge.bound.tolist(), strict=True):
            if status is not Status.PROVED:
                yield f"The proof of sample {sample.id} by {method} does not hold in float64 (bound {bound:.4g})."
