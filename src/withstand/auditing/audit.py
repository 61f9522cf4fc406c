"""The main job: doctor, attacks and proofs, from cheap to dear on survivors only, kept in a run folder."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import withstand
from withstand.auditing.block import Job, Setup
from withstand.auditing.doctor import examine
from withstand.auditing.frames import frame
from withstand.auditing.json_values import json_values
from withstand.auditing.ledger import Ledger, name_of_source
from withstand.auditing.plan import make_plan, radii_of, threat_text
from withstand.auditing.pricing import Prices
from withstand.auditing.progress import Listener
from withstand.auditing.question import Question, pose
from withstand.auditing.runfolder import RunFolder, default_folder
from withstand.auditing.settled import Fault, Settled
from withstand.auditing.stages import Phase, early_methods
from withstand.auditing.workers import settle_all
from withstand.bounds.support import unboundable
from withstand.core.arguments import checked
from withstand.core.budget import Budget
from withstand.core.errors import InputError, ToolFault
from withstand.core.property import Property
from withstand.core.records import (
    Alarm,
    Check,
    Counts,
    CurvePoint,
    EndedBy,
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
from withstand.io.written import Written

BLOCK = 128
"""Samples settled together, at most."""

EARLY = 2 / 3
"""Share of the time for what every sample needs."""

LOOKED_AT = 100
"""Samples the alarms' own attacks look at in a run, about."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit. Accuracies are shares of all n samples: certified <= true robustness <= attacked.

    attacked_accuracy: None where it is not measured, because no attack came to look at `unattacked` samples. cut: how
    many samples the time kept some method from. state: "complete", or "partial" with the reason in `ended_by`: it was
    interrupted (n then counts the samples that are settled), or its time was over before everything was done.
    """

    n: int
    clean_accuracy: float
    certified_accuracy: float
    attacked_accuracy: float | None
    unattacked: int
    cut: int
    counts: Counts
    population_interval: Interval
    seconds: Seconds
    queries: int
    gradients: int
    executed: int | None
    peak_memory_mb: float | None
    alarms: list[Alarm]
    curve: list[CurvePoint]
    checks: list[Check]
    state: Literal["partial", "complete"]
    ended_by: EndedBy | None
    run_dir: Path
    version: str
    samples: list[SampleRecord] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """All fields but the samples as JSON values."""
        return json_values(self, without=("samples",))

    def to_frame(self) -> Any:
        """The samples as a pandas.DataFrame, one row each. Raises InputError where pandas is not installed."""
        return frame(self.samples)


@checked
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
    trust: bool = False,
) -> Audit:
    """Close both jaws on a model's robustness: what is proved from below, what is refuted from above.

    model, data, threat, property: as on the command line, or objects in memory. limit: only the first samples.
    budget: wall time in seconds or as "10m", loading and the doctor aside (none: every method runs to its own end).
    out: the run folder; unless given, `runs/<model>-<data>-<threat>-<seed>`. A folder that holds samples of the same
    plan is resumed, whatever its budget was: what time kept from its end is gone on with. workers: processes.
    certificates: whether to store those of proofs. plan: a saved plan (or its file), which fills in limit, budget,
    seed, property and certificates where they are None (unless given: all samples, no end, 0, argmax, no).
    batch: samples settled together; it changes no result. progress: called with each event. trust: code that the plan
    names may run, if it is declared (see `withstand.factory`).

    Ctrl-C ends the audit early with a valid folder and the state "partial", as does the end of the time.

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
        *names, threat, asked, limit=limit, seed=seed, budget=budget, certificates=certificates, base=plan, trust=trust
    )
    law = Written(agreed.property, "The plan", trust) if property is None else agreed.property
    with pose(model, data, threat, law, limit=agreed.limit, device=device) as question:
        folder = RunFolder(out or default_folder(names[0], names[1], _slug(agreed, question), agreed.seed))
        folder.open()
        try:
            return _Run(Ledger(agreed, question, folder, Budget()), progress or (lambda event: None)).go(workers, batch)
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
        self.plan, self.question = ledger.plan, ledger.question
        self.setup, self.prices = _setup(self.plan, self.question), Prices()

    def go(self, workers: int, batch: int | None) -> Audit:
        """Doctor, then every sample that is not settled yet or that time kept from its end."""
        ledger = self.ledger
        try:
            if not ledger.record.checks:
                self._doctor()
            ledger.write("running")
            ledger.store_model()
            self._spend(Budget(self.plan.budget_seconds), workers, batch)
            summary = ledger.end(interrupted=False)
        except KeyboardInterrupt:
            summary = ledger.end(interrupted=True)
        self._tell("done")
        shown = {field: getattr(summary, field) for field in Summary.model_fields}
        return Audit(
            **shown,
            curve=ledger.record.curve,
            checks=ledger.record.checks,
            state="complete" if ledger.record.state == "complete" else "partial",
            ended_by=ledger.record.ended_by,
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

    def _spend(self, time: Budget, workers: int, batch: int | None) -> None:
        """Everything at once where the time has no end; else first what every sample needs, then what that left, in
        rounds as long as one helps, then proofs of what is open."""
        if time.seconds is None:
            self._settle("all", time, workers, batch)
            return
        self._settle("early", time.share(EARLY), workers, batch)
        before, now = None, self._open_ends()
        while now != before and not time.spent:
            self._settle("late", time, workers, batch)
            before, now = now, self._open_ends()
        if self.ledger.more_time and not time.spent:
            self._settle("patient", time, workers, batch)

    def _open_ends(self) -> dict[int, set[str]]:
        """The methods that time kept from their end, by sample."""
        return {i: set(one.cut) for i, one in self.ledger.samples.items() if one.cut}

    def _settle(self, phase: Phase, time: Budget, workers: int, batch: int | None) -> None:
        jobs = _jobs(self.question, self.ledger.samples, self._wanted(phase), batch)
        crew = min(workers, max(1, len(jobs)))

        def pace(waiting: int) -> Budget:
            return time.share(min(1.0, crew / waiting))

        for settled in settle_all(self.setup, self.question.replay, jobs, phase, crew, pace, self.prices, self._tell):
            self._keep(settled)

    def _wanted(self, phase: Phase) -> Callable[[SampleRecord], bool]:
        """Whether a phase has something to do on a sample that an earlier attempt has looked at."""
        early = early_methods(self.setup)
        if phase == "early":
            return lambda one: not early.isdisjoint(one.cut)
        if phase == "patient":
            return lambda one: one.status == "unknown" and bool(self.setup.verifiers)
        return lambda one: bool(one.cut)

    def _keep(self, settled: Settled) -> None:
        ledger = self.ledger
        if settled.fault is not None:
            _keep_fault(ledger.folder, settled.fault)
            ledger.write("partial")
            raise ToolFault(settled.fault.sentence)
        ledger.now.attack += settled.attack_seconds
        ledger.now.verify += settled.verify_seconds
        witnesses = {
            str(s.witness): settled.witnesses[s.id] for s in settled.records if s.witness and s.id in settled.witnesses
        }
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


def _jobs(
    question: Question, known: Mapping[int, SampleRecord], wanted: Callable[[SampleRecord], bool], batch: int | None
) -> list[Job]:
    """Blocks of a fixed cut through the data: the samples that are new, and of those known the ones that are wanted."""
    ids, n = question.data.ids, len(question.data)
    size = batch or min(BLOCK, max(16, -(-n // 8)))
    jobs = []
    for start in range(0, n, size):
        rows = [i for i in range(start, min(start + size, n)) if ids[i] not in known or wanted(known[ids[i]])]
        if rows:
            mine = [ids[i] for i in rows]
            jobs.append(Job(question.x[rows], question.y[rows], mine, [known.get(i) for i in mine]))
    return jobs


def _setup(plan: Plan, question: Question) -> Setup:
    graph = question.model.graph
    able = [] if graph is None or unboundable(graph) or not question.threat.provable else plan.verifiers
    able = able if question.model.differs is None else []
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
