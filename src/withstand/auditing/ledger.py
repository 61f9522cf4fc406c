"""A run on its way: what is settled so far, in memory and in the folder that keeps it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from typing import Any, Literal

from withstand.auditing.figures import curve, summarise
from withstand.auditing.origin import origin_of
from withstand.auditing.plan import check_match, radii_of
from withstand.auditing.progress import Progress
from withstand.auditing.question import Question
from withstand.auditing.runfolder import RunFolder
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.records import EndedBy, Plan, RunRecord, SampleRecord, Seconds, Summary
from withstand.core.tally import count
from withstand.graph.model import Model
from withstand.io.witness import Witness
from withstand.io.written import Written

State = Literal["running", "partial", "complete"]


def name_of_source(source: Any) -> str:
    """What a plan calls a model or data: the user's own words, or the name of an object in memory."""
    if isinstance(source, str | PathLike | Written):
        return str(source).strip()
    if isinstance(source, tuple | list):
        return "arrays"
    if isinstance(source, Model):
        return source.name
    return getattr(source, "name", None) or getattr(source, "__name__", None) or type(source).__name__


class Ledger:
    """The samples and the record of a run in an open folder, which a run of the same plan goes on with.

    samples: those that are settled, by number. now: the seconds of this part of the run, by stage. more_time: the run
    is not complete, or this part of it may take longer than the last. Raises InputError when the folder holds another
    run.
    """

    def __init__(self, plan: Plan, question: Question, folder: RunFolder, clock: Budget) -> None:
        self.plan, self.question, self.folder, self.clock = plan, question, folder, clock
        origin = origin_of(question)
        before = folder.read_run()
        if before is not None:
            check_match(plan, origin.model_digest, origin.data_digest, before, folder.path)
            folder.mend()
        elif folder.samples_file.exists():
            raise InputError(f"{folder.path} holds samples but no run.json; choose another folder with --out.")
        self.samples = {sample.id: sample for sample in folder.read_samples()} if before else {}
        self.record = before or RunRecord(
            plan=plan,
            origin=origin,
            samples=len(question.data),
            input_shape=list(question.model.input_shape),
            classes=None if question.data.classes is None else list(question.data.classes),
        )
        self.record = self.record.model_copy(update={"plan": plan, "state": "running", "ended_by": None, "ended": None})
        self.more_time = before is None or before.state != "complete" or _longer(plan, before.plan)
        self.earlier = before.summary.seconds if before and before.summary else Seconds()
        self.now = Seconds()

    @property
    def ordered(self) -> list[SampleRecord]:
        """The settled samples by number."""
        return [self.samples[i] for i in sorted(self.samples)]

    def store_model(self) -> None:
        """Keep the deployed form beside the witnesses, so that they replay without the user's code."""
        if self.question.model.source is None and self.question.onnx is not None:
            self.folder.write_bytes("model.onnx", self.question.onnx)

    def keep(
        self, records: Sequence[SampleRecord], witnesses: Mapping[str, Witness], certificates: Mapping[str, bytes] = {}
    ) -> None:
        """Store settled samples with their witnesses and certificates, by their files' names; when this returns they
        are on the disk."""
        for name, content in certificates.items():
            self.folder.write_bytes(name, content)
        for name, witness in witnesses.items():
            self.folder.save_witness(name, witness)
        self.folder.append(records)
        self.samples |= {sample.id: sample for sample in records}
        self.write("running")

    @property
    def unfinished(self) -> bool:
        """Whether some sample is not settled, or time kept a method from its end on one."""
        return len(self.samples) < len(self.question.data) or any(one.cut for one in self.samples.values())

    def end(self, *, interrupted: bool) -> Summary:
        """Write run.json at the end of this part of the run: complete, or partial and why."""
        why = "interrupt" if interrupted else "time" if self.unfinished else None
        return self.write("complete" if why is None else "partial", why)

    def write(self, state: State, ended_by: EndedBy | None = None) -> Summary:
        """Write run.json as things stand."""
        samples = self.ordered
        self.now.total = self.clock.elapsed
        parts = {name: getattr(self.earlier, name) + getattr(self.now, name) for name in Seconds.model_fields}
        summary = summarise(samples, Seconds(**parts), self.record.checks, proofs=self.plan.verb == "audit")
        points = curve(samples, radii_of(self.plan, self.question.threat))
        ended = None if state == "running" else datetime.now(UTC)
        self.record = self.record.model_copy(
            update={"state": state, "ended_by": ended_by, "summary": summary, "curve": points, "ended": ended}
        )
        self.folder.write_run(self.record)
        return summary

    def progress(self, stage: str) -> Progress:
        """How far the run is, in a stage that has just begun."""
        counts = count(list(self.samples.values()))
        return Progress(stage, len(self.samples), len(self.question.data), counts, self.clock.elapsed)


def _longer(now: Plan, before: Plan) -> bool:
    return now.budget_seconds is not None and now.budget_seconds > (before.budget_seconds or 0.0)
