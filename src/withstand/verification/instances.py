"""Many VNN-LIB questions answered by worker processes that are started once and restarted after a crash.

A worker that overruns its time is killed, so that no answer is later than 5 % after its limit, whatever a library does
meanwhile; a worker that dies takes one question with it. This module loads neither torch nor onnx.
"""

import contextlib
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from withstand.core.errors import ToolFault
from withstand.io.instances import Instance
from withstand.io.results import Result
from withstand.verification.refusal import Look
from withstand.verification.worker import serve

OVERRUN = 1.02
"""A worker is killed after so many times the limit: a search ends by itself when it sees the time, usually before."""

FOREVER = 3600.0
"""Longest wait for a message, in seconds; then the wait begins again."""


@dataclass(frozen=True)
class Outcome:
    """An instance with its result. reason: what stopped an undecided search, or what went wrong. fault: what went wrong
    is withstand's. text: the answer as VNN-COMP wants it. witness: the counterexample and the outputs there, flat.
    """

    instance: Instance
    result: Result
    reason: str = ""
    fault: bool = False
    text: str = ""
    witness: list[list[float]] | None = None


def answer_all(
    instances: Sequence[Instance],
    *,
    jobs: int = 1,
    threads: int | None = None,
    certificates: Path | None = None,
    double: bool = False,
    begun: Callable[[Instance], None] = lambda instance: None,
) -> Iterator[tuple[int, Outcome]]:
    """Answer instances, several at a time with several jobs; each comes with its number in the list as it ends.

    threads: of torch in each worker (None: torch decides). certificates: the folder for proofs and witnesses. double:
    as in `decide`. begun: is told of every instance when its time begins to run.
    """
    crew = [_Worker(threads) for _ in range(min(jobs, len(instances)))]
    waiting = list(reversed(range(len(instances))))
    try:
        while waiting or any(worker.instance for worker in crew):
            for worker in crew:
                if waiting and worker.process is None:
                    worker.start()
                if waiting and worker.idle:
                    number = waiting.pop()
                    begun(instances[number])
                    stored = certificates and certificates / file_name(instances[number])
                    worker.ask(number, instances[number], stored, double, time.monotonic())
            alive = [worker for worker in crew if worker.process is not None]
            wait([worker.pipe for worker in alive], min(worker.left for worker in alive))
            for worker in alive:
                if (outcome := worker.hear()) is not None:
                    yield worker.number, outcome
    finally:
        for worker in crew:
            worker.stop()


def answer(instance: Instance, began: float, certificate: Path | None = None, double: bool = False) -> Outcome:
    """Answer one instance in a process of its own, whose start belongs to the instance's time.

    began: when that time began, by `time.monotonic`. certificate, double: as in `decide`.
    """
    worker = _Worker(None)
    worker.start()
    try:
        worker.ask(0, instance, certificate, double, began)
        while (outcome := worker.hear()) is None:
            wait([worker.pipe], worker.left)
        return outcome
    finally:
        worker.stop()


@dataclass
class _Worker:
    """A process with a pipe, the instance it works on and its number in the list, and how much CPU time it had used
    when it last spoke. decided: the fields of the result, once only its certificate is to be made. look: this process's
    own at the files, until the worker has understood them."""

    threads: int | None
    instance: Instance | None = None
    decided: dict[str, Any] | None = None
    look: Look | None = None
    understood: bool = False
    number: int = -1
    ready: bool = False
    began: float = 0.0
    spent: float = 0.0
    pipe: Connection = field(init=False)
    process: BaseProcess | None = None

    def start(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.threads), daemon=True)
        self.process.start()
        theirs.close()
        self.spent = 0.0

    def stop(self) -> float:
        """Kill the process and give the CPU seconds it used since it last spoke."""
        if self.process is None:
            return 0.0
        before = _children()
        self.process.kill()
        self.process.join()
        self.process, self.ready = None, False
        self.pipe.close()
        return max(0.0, _children() - before - self.spent)

    @property
    def idle(self) -> bool:
        return self.ready and self.instance is None

    @property
    def left(self) -> float:
        """Seconds until this worker has to be killed."""
        if self.instance is None or self.instance.timeout is None:
            return FOREVER
        return min(FOREVER, max(0.0, self.began + OVERRUN * self.instance.timeout - time.monotonic()))

    def ask(self, number: int, instance: Instance, certificate: Path | None, double: bool, began: float) -> None:
        self.number, self.instance, self.began, self.understood = number, instance, began, False
        self.look = None if self.ready else Look(instance)  # a worker that is ready reads files itself, at once
        with contextlib.suppress(ConnectionError):  # a dead process is seen when it is heard
            self.pipe.send((instance.network, instance.question, instance.timeout, began, certificate, double))

    def hear(self) -> Outcome | None:
        """The outcome of the instance at hand, if there is one by now."""
        if self.pipe.poll():
            try:
                kind, content, spent = self.pipe.recv()
            except (EOFError, ConnectionError):
                return self._died()
            if kind == "understood":
                self.understood = True
                return None
            if kind == "decided":
                self.decided = {**content, "seconds": self.elapsed}
                return None
            used, self.spent = spent - self.spent, spent
            if kind == "ready":
                self.ready = True
                return None
            return self._told(kind, content, used)
        if self.left == 0.0:
            elapsed, used = self.elapsed, self.stop()
            if self.decided is not None:
                return self._bare(used, "the time was over before it was checked")
            assert self.instance is not None
            if not self.understood and (refusal := (self.look or Look(self.instance)).refusal()):
                return self._end(used, "error", elapsed, reason=refusal)
            return self._end(used, "timeout", elapsed, reason="the time was over, in the middle of a step")
        return None

    def _told(self, kind: str, content: Any, used: float) -> Outcome:
        if kind == "answered":
            return self._end(used, seconds=self.elapsed, **content)
        return self._end(used, "error", self.elapsed, reason=content, fault=kind == "failed")

    def _died(self) -> Outcome | None:
        process, ready, elapsed, used = self.process, self.ready, self.elapsed, self.stop()
        assert process is not None
        how = process.exitcode or 0
        if not ready:
            raise ToolFault(f"A worker process ended before it could work (exit code {how}).")
        what = f"by signal {-how}, perhaps for want of memory" if how < 0 else f"with code {how}"
        if self.decided is not None:
            return self._bare(used, f"its process ended {what}")
        return None if self.instance is None else self._end(used, "error", elapsed, reason=f"its process ended {what}")

    def _bare(self, used: float, why: str) -> Outcome:
        """The result that was decided on, without a certificate."""
        assert self.decided is not None
        return self._end(used, **{**self.decided, "reason": f"no certificate was stored: {why}"})

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def _end(
        self,
        used: float,
        result: str,
        seconds: float,
        domains: int = 0,
        bound: float = float("-inf"),
        certificate: str = "",
        **told: Any,
    ) -> Outcome:
        instance, self.instance, self.decided = self.instance, None, None
        assert instance is not None
        files = (instance.onnx, instance.vnnlib)
        row = Result(*files, result, round(seconds, 3), round(used, 3), domains, bound, certificate)
        return Outcome(instance, row, **told)


def file_name(instance: Instance) -> str:
    """A name for files about an instance, without folders and odd characters."""
    parts = (str(Path(text).with_suffix("")) for text in (instance.onnx, instance.vnnlib))
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in part).strip("._") for part in parts)


def _children() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
