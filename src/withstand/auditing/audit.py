"""The main job: doctor, attacks and proofs, from cheap to dear on survivors only, kept in a run folder."""

import json
import time
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import withstand
from withstand.auditing.block import Setup
from withstand.auditing.doctor import examine
from withstand.auditing.frames import frame
from withstand.auditing.json_values import json_values
from withstand.auditing.ledger import Ledger, name_of_source
from withstand.auditing.plan import make_plan, radii_of, threat_text
from withstand.auditing.progress import Listener
from withstand.auditing.question import Question, pose
from withstand.auditing.runfolder import RunFolder, default_folder
from withstand.auditing.stages import Fault, Settled
from withstand.auditing.workers import Job, settle_all
from withstand.bounds.support import unboundable
from withstand.core.budget import Budget
from withstand.core.errors import InputError, ToolFault
from withstand.core.property import Property
from withstand.core.records import (
    Alarm,
    Check,
    Counts,
    CurvePoint,
    Interval,
    Plan,
    SampleRecord,
    Seconds,
    Summary,
)
from withstand.core.registry import build
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike

BLOCK = 128
"""Samples settled together, at most."""

LOOKED_AT = 100
"""Samples the alarms' own attacks look at in a run, about."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit. Accuracies are shares of all n samples: certified <= true robustness <= attacked.

    state: "complete", or "partial" if it was interrupted; n then counts the samples that are settled.
    """

    n: int
    clean_accuracy: float
    certified_accuracy: float
    attacked_accuracy: float
    counts: Counts
    population_interval: Interval
    seconds: Seconds
    queries: int
    gradients: int
    peak_memory_mb: float | None
    alarms: list[Alarm]
    curve: list[CurvePoint]
    checks: list[Check]
    state: Literal["partial", "complete"]
    run_dir: Path
    version: str
    samples: list[SampleRecord] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """All fields but the samples as JSON values."""
        return json_values(self, without=("samples",))

    def to_frame(self) -> Any:
        """The samples as a pandas.DataFrame, one row each. Raises InputError where pandas is not installed."""
        return frame(self.samples)


def audit(
    model: ModelLike,
    data: DataLike,
    *,
    threat: str | Threat,
    limit: int | None = None,
    budget: float | str | None = None,
    out: str | PathLike[str] | None = None,
    seed: int | None = None,
    device: str = "cpu",
    workers: int = 1,
    property: str | Property | None = None,
    certificates: bool | None = None,
    plan: Plan | str | PathLike[str] | None = None,
    batch: int | None = None,
    progress: Listener | None = None,
) -> Audit:
    """Close both jaws on a model's robustness: what is proved from below, what is refuted from above.

    model, data, threat, property: as on the command line, or objects in memory. limit: only the first samples.
    budget: wall time in seconds or as "10m" (none: every method runs to its own end). out: the run folder; unless
    given, `runs/<model>-<data>-<threat>-<seed>`. A folder that holds samples of the same plan is resumed. workers:
    processes. certificates: whether to store those of proofs. plan: a saved plan (or its file), which fills in limit,
    budget, seed, property and certificates where they are None (unless given: all samples, no end, 0, argmax, no).
    batch: samples settled together; it changes no result. progress: called with each event.

    Ctrl-C ends the audit early with a valid folder and the state "partial".

    Raises InputError when an input cannot be used (a property must have a text that reads back), or the folder holds a
    run of another plan; ToolFault when the tool contradicts itself (both pieces of evidence are then in the folder
    `faults`).
    """
    if workers < 1:
        raise InputError(f"There must be at least one worker, not {workers}.")
    if batch is not None and batch < 1:
        raise InputError(f"The batch must hold at least one sample, not {batch}.")
    names = name_of_source(model), name_of_source(data)
    asked = None if property is None else str(property)
    agreed = make_plan(
        *names, threat, asked, limit=limit, seed=seed, budget=budget, certificates=certificates, base=plan
    )
    clock = Budget(agreed.budget_seconds)
    with pose(model, data, threat, agreed.property, limit=agreed.limit, device=device) as question:
        folder = RunFolder(out or default_folder(names[0], names[1], _slug(agreed, question), agreed.seed))
        folder.open()
        try:
            return _Run(Ledger(agreed, question, folder, clock), progress or (lambda event: None)).go(workers, batch)
        finally:
            folder.close()


def _slug(plan: Plan, question: Question) -> str:
    parts = [threat_text(plan.threat)]
    parts += [] if plan.property == "argmax" else [plan.property]
    parts += [] if plan.limit is None else [f"first{len(question.data)}"]
    return "-".join(parts)


class _Run:
    """One audit on its way."""

    def __init__(self, ledger: Ledger, listener: Listener) -> None:
        self.ledger, self.listener = ledger, listener
        self.plan, self.question, self.clock = ledger.plan, ledger.question, ledger.clock

    def go(self, workers: int, batch: int | None) -> Audit:
        """Doctor, then every sample that is not settled yet."""
        ledger = self.ledger
        try:
            if not ledger.record.checks:
                self._doctor()
            ledger.write("running")
            ledger.store_model()
            self._settle(workers, batch)
            state: Literal["partial", "complete"] = "complete"
        except KeyboardInterrupt:
            state = "partial"
        summary = ledger.write(state)
        self._tell("done")
        shown = {field: getattr(summary, field) for field in Summary.model_fields}
        return Audit(
            **shown,
            curve=ledger.record.curve,
            checks=ledger.record.checks,
            state=state,
            run_dir=ledger.folder.path,
            version=withstand.__version__,
            samples=ledger.ordered,
        )

    def _doctor(self) -> None:
        self._tell("doctor")
        began = time.perf_counter()
        checks = examine(self.question)
        self.ledger.now.doctor += time.perf_counter() - began
        self.ledger.record.checks = checks
        for check in checks:
            if check.outcome == "fail":
                raise InputError(check.sentence)

    def _settle(self, workers: int, batch: int | None) -> None:
        jobs = _jobs(self.question, set(self.ledger.samples), batch)
        setup = _setup(self.plan, self.question)
        crew = min(workers, max(1, len(jobs)))

        def pace(waiting: int) -> float | None:
            if self.clock.seconds is None:
                return None
            return self.clock.left / max(1.0, waiting / crew)

        for settled in settle_all(setup, self.question.replay, jobs, crew, pace, self._tell):
            self._keep(settled)

    def _keep(self, settled: Settled) -> None:
        ledger = self.ledger
        if settled.fault is not None:
            _keep_fault(ledger.folder, settled.fault)
            ledger.write("partial")
            raise ToolFault(settled.fault.sentence)
        ledger.now.attack += settled.attack_seconds
        ledger.now.verify += settled.verify_seconds
        witnesses = {str(s.witness): settled.witnesses[s.id] for s in settled.records if s.witness}
        ledger.keep(settled.records, witnesses, settled.certificates)
        self._tell("settled")

    def _tell(self, stage: str) -> None:
        self.listener(self.ledger.progress(stage))


def _keep_fault(folder: RunFolder, fault: Fault) -> None:
    """Both pieces of evidence of a contradiction."""
    name = f"faults/{fault.witness.id}"
    fault.witness.save(folder.path / f"{name}.npz")
    told = {"sentence": fault.sentence, "bound": fault.bound, "proved_by": fault.proved_by, "witness": f"{name}.npz"}
    folder.write_text(f"{name}.json", json.dumps(told, indent=1) + "\n")


def _jobs(question: Question, done: set[int], batch: int | None) -> list[Job]:
    """Blocks of a fixed cut through the data, without the samples that are done."""
    n = len(question.data)
    size = batch or min(BLOCK, max(16, -(-n // 8)))
    jobs = []
    for start in range(0, n, size):
        rows = [i for i in range(start, min(start + size, n)) if question.data.ids[i] not in done]
        if rows:
            jobs.append(Job(question.x[rows], question.y[rows], [question.data.ids[i] for i in rows]))
    return jobs


def _setup(plan: Plan, question: Question) -> Setup:
    graph = question.model.graph
    able = [] if graph is None or unboundable(graph) or not question.threat.provable else plan.verifiers
    return Setup(
        model=question.model,
        onnx=question.onnx,
        threat=question.threat,
        property=question.property,
        attacks=tuple(build("attack", text) for text in plan.attacks),
        verifiers=tuple(build("verifier", text) for text in able),
        radii=radii_of(plan, question.threat),
        seed=plan.seed,
        queries=plan.sample_queries,
        share=min(1.0, LOOKED_AT / max(1, len(question.data))),
        device=question.device,
        certificates=plan.certificates,
    )
