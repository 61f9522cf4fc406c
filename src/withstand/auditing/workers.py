"""Blocks of samples settled one after the other, here or in spawned processes; only the caller writes results."""

import pickle
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withstand.auditing.block import Job, Setup
from withstand.auditing.pricing import Prices
from withstand.auditing.question import Replay
from withstand.auditing.settled import Settled
from withstand.auditing.stages import Phase, settle
from withstand.core.budget import Budget
from withstand.core.errors import InputError, ToolFault

Pace = Callable[[int], Budget]
"""The time that the next block may take, given how many blocks are not yet begun."""


def settle_all(
    setup: Setup,
    replay: Callable[[Tensor], Tensor] | None,
    jobs: list[Job],
    phase: Phase,
    workers: int,
    pace: Pace,
    prices: Prices,
    say: Callable[[str], None],
) -> Iterator[Settled]:
    """The results of every job, as they come; with several workers in any order. prices: as measured so far, here or in
    earlier calls; workers begin with them and measure on."""
    if workers <= 1 or len(jobs) <= 1:
        for number, job in enumerate(jobs):
            yield settle(setup, replay, job, phase, pace(len(jobs) - number), prices, say)
        return
    crew = _Crew(setup, phase, prices, min(workers, len(jobs)))
    try:
        yield from crew.work(jobs, pace, say)
    finally:
        crew.stop()


class _Crew:
    """Worker processes, each with a pipe."""

    def __init__(self, setup: Setup, phase: Phase, prices: Prices, size: int) -> None:
        threads = max(1, torch.get_num_threads() // size)
        package = _pack(setup)
        self.prices = prices
        context = get_context("spawn")
        self.members: dict[Connection, BaseProcess] = {}
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, package, phase, prices, threads), daemon=True)
            process.start()
            theirs.close()
            self.members[ours] = process

    def work(self, jobs: list[Job], pace: Pace, say: Callable[[str], None]) -> Iterator[Settled]:
        waiting, busy = list(jobs), set[Connection]()
        for pipe in self.members:
            self._send(pipe, waiting, busy, pace)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                kind, content = self._receive(ready)
                if kind == "stage":
                    say(content)
                elif kind == "input error":
                    raise InputError(content)
                elif kind == "fault":
                    raise ToolFault(f"A worker failed:\n{content}")
                else:
                    busy.discard(ready)
                    self._send(ready, waiting, busy, pace)
                    settled, prices = content
                    self.prices.learn(prices)
                    yield settled

    def _send(self, pipe: Connection, waiting: list[Job], busy: set[Connection], pace: Pace) -> None:
        if waiting:
            seconds = pace(len(waiting)).seconds
            job = waiting.pop(0)
            pipe.send((job.x.cpu().numpy(), job.y.cpu().numpy(), job.ids, job.earlier, seconds))
            busy.add(pipe)

    @staticmethod
    def _receive(pipe: Connection) -> tuple[str, Any]:
        try:
            return pipe.recv()
        except (EOFError, ConnectionError):
            raise ToolFault(
                "A worker process died, perhaps for want of memory; finished samples are kept, "
                "so give the same command again with fewer --workers."
            ) from None

    def stop(self) -> None:
        for process in self.members.values():
            process.terminate()
        for pipe, process in self.members.items():
            process.join()
            pipe.close()


def _pack(setup: Setup) -> bytes:
    model = setup.model
    try:
        return pickle.dumps(setup)
    except (pickle.PicklingError, AttributeError, TypeError):
        raise InputError(
            f"{model.name} cannot be sent to worker processes; define it in a module of its own, or use one worker."
        ) from None


def _serve(pipe: Connection, package: bytes, phase: Phase, prices: Prices, threads: int) -> None:
    """A worker's life: settle jobs until the pipe closes. Interrupts are the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        setup: Setup = pickle.loads(package)  # written by the parent process, never a user's file
        setup.model.to(setup.device)
        replay = None if setup.onnx is None else Replay(setup.onnx)
        while True:
            x, y, ids, earlier, seconds = pipe.recv()
            x, y = (torch.from_numpy(np.asarray(part)).to(setup.device) for part in (x, y))
            job, budget = Job(x, y, ids, earlier), Budget(seconds)
            settled = settle(setup, replay, job, phase, budget, prices, lambda name: pipe.send(("stage", name)))
            pipe.send(("settled", (settled, prices)))
    except (EOFError, ConnectionError):
        return
    except InputError as error:
        pipe.send(("input error", str(error)))
    except Exception:
        import traceback

        pipe.send(("fault", traceback.format_exc()))
