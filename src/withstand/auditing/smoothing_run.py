"""A run of randomised smoothing on its way: samples that are settled, in memory and in the folder that keeps them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import torch

from withstand.auditing.folder import Folder
from withstand.auditing.origin import origin_of
from withstand.auditing.question import Question
from withstand.core.errors import InputError
from withstand.core.run_files import read_lines, read_whole
from withstand.core.smoothing_records import SmoothedSample, SmoothingPlan, SmoothingRecord, SmoothingSummary
from withstand.core.smoothing_tally import summarise
from withstand.reporting.page import report
from withstand.smoothing.smoothed import Smoothing

RECORD, LINES = "smooth.json", "smooth.jsonl"
"""The files of a run folder: the whole run, and a line a sample."""

PAUSE = 2.0
"""Seconds between two writings of the record; samples are written when they are settled."""

_FREE = {"radii"}
"""Entries of a plan that change no sample."""


@dataclass(frozen=True)
class SmoothingProgress:
    """So many samples of `total` are settled, `seconds` after this part of the run began."""

    done: int
    total: int
    seconds: float


Listener = Callable[[SmoothingProgress], None]
"""A function that is called whenever samples are settled."""


class SmoothingRun:
    """The samples of a question, asked of a smoothed model and settled in turn.

    folder: open, or None where nothing is kept on disk; one that holds samples of the same plan is gone on with.
    Raises InputError when it holds another run.
    """

    def __init__(
        self, plan: SmoothingPlan, smoothing: Smoothing, question: Question, folder: Folder | None, listener: Listener
    ) -> None:
        self.plan, self.smoothing, self.question = plan, smoothing, question
        self.folder, self.listener = folder, listener
        data = question.data
        self.record = SmoothingRecord(
            plan=plan,
            origin=origin_of(question),
            samples=len(data),
            cap=smoothing.cap if plan.mode == "certify" else None,
            input_shape=list(question.model.input_shape),
            classes=None if data.classes is None else list(data.classes),
        )
        self.samples: dict[int, SmoothedSample] = {}
        if folder is not None:
            self._resume(folder)
        before = self.record.summary
        self._earlier = (0.0, 0.0) if before is None else (before.seconds, before.cpu_seconds)
        self._began = (time.perf_counter(), time.process_time())
        self._written = 0.0

    def go(self) -> SmoothingSummary:
        """Settle every sample that is not settled yet; with a folder, Ctrl-C leaves a valid partial run."""
        self._write("running")
        try:
            for rows in self._groups():
                self._keep(self._settle(rows))
        except KeyboardInterrupt:
            if self.folder is None:
                raise
            return self._end("partial")
        return self._end("complete")

    @property
    def ordered(self) -> list[SmoothedSample]:
        """The settled samples by number."""
        return [self.samples[id] for id in sorted(self.samples)]

    def _resume(self, folder: Folder) -> None:
        if (folder.path / "run.json").exists():
            raise InputError(f"{folder.path} holds a run of proofs or attacks; choose another folder with --out.")
        if not (folder.path / RECORD).exists():
            return
        before = read_whole(folder.path / RECORD, SmoothingRecord, "smooth")
        _check_same(self.record, before, folder)
        folder.mend_lines(LINES)
        self.samples = {
            sample.id: sample
            for sample in read_lines(folder.path / LINES, SmoothedSample, "id", "the next run redoes it")
        }
        self.record = before.model_copy(update={"plan": self.plan})

    def _groups(self) -> list[list[int]]:
        """Rows of the data that are not settled; so many together, by a fixed cut, as fill a forward pass."""
        ids, size = self.question.data.ids, max(1, self.smoothing.batch // self.plan.draws)
        cut = [range(start, min(start + size, len(ids))) for start in range(0, len(ids), size)]
        left = [[row for row in rows if ids[row] not in self.samples] for rows in cut]
        return [rows for rows in left if rows]

    def _settle(self, rows: list[int]) -> list[SmoothedSample]:
        began, question = time.perf_counter(), self.question
        x, ids = question.x[rows], [question.data.ids[row] for row in rows]
        with torch.no_grad():
            base = question.model(x).argmax(1).tolist()
        if self.plan.mode == "certify":
            told = self.smoothing.certify(question.model, x, ids)
            own = [
                {"guess": guess, "bound": bound, "radius": radius}
                for guess, bound, radius in zip(
                    told.guess.tolist(), told.bound.tolist(), told.radius.tolist(), strict=True
                )
            ]
        else:
            told = self.smoothing.predict(question.model, x, ids)
            own = [{"p_value": chance} for chance in told.p_value.tolist()]
        seconds = round((time.perf_counter() - began) / len(rows), 4)
        return [
            SmoothedSample(
                id=ids[i],
                label=int(question.y[row]),
                base=base[i],
                answer=answer if answer >= 0 else None,
                counts={k: votes for k, votes in enumerate(told.counts[i].tolist()) if votes},
                seconds=seconds,
                **own[i],
            )
            for i, (row, answer) in enumerate(zip(rows, told.answer.tolist(), strict=True))
        ]

    def _keep(self, samples: list[SmoothedSample]) -> None:
        if self.folder is not None:
            self.folder.append_lines(LINES, (sample.model_dump_json() for sample in samples))
        self.samples |= {sample.id: sample for sample in samples}
        seconds = time.perf_counter() - self._began[0]
        if seconds > self._written + PAUSE:
            self._write("running")
            self._written = seconds
        self.listener(SmoothingProgress(len(self.samples), len(self.question.data), seconds))

    def _end(self, state: Literal["partial", "complete"]) -> SmoothingSummary:
        summary = self._write(state)
        if self.folder is not None:
            report(self.folder.path)
        return summary

    def _write(self, state: Literal["running", "partial", "complete"]) -> SmoothingSummary:
        """The summary as things stand, and in the folder the record."""
        now = (time.perf_counter(), time.process_time())
        spent = [old + at - began for old, at, began in zip(self._earlier, now, self._began, strict=True)]
        summary = summarise(self.plan, self.ordered, self.record.cap, *spent)
        ended = None if state == "running" else datetime.now(UTC)
        self.record = self.record.model_copy(update={"state": state, "summary": summary, "ended": ended})
        if self.folder is not None:
            self.folder.write_text(RECORD, self.record.model_dump_json(indent=1))
        return summary


def _check_same(asked: SmoothingRecord, held: SmoothingRecord, folder: Folder) -> None:
    """Raise InputError unless a folder's record is of the same plan, model and data."""
    advice = f"choose another folder with --out, or remove {folder.path}."
    before, now = held.plan.model_dump(exclude=_FREE), asked.plan.model_dump(exclude=_FREE)
    for name, value in now.items():
        if before[name] != value:
            raise InputError(f"{folder.path} holds a run with {name} {before[name]!r}, not {value!r}; {advice}")
    if held.origin.model_digest != asked.origin.model_digest:
        raise InputError(f"{folder.path} holds a run of other weights under the same model name; {advice}")
    if held.origin.data_digest != asked.origin.data_digest:
        raise InputError(f"{folder.path} holds a run of other data under the same name; {advice}")
