"""The worker process that answers instances for `withstand.verification.instances`, one after the other.

Heavy packages load when it starts to serve, so that the process that watches over it stays light.
"""

import contextlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.verification.vnncomp import Answer

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl."""

LEAST = 1e-3
"""Seconds that a question is given whose time is over before it is read: a fault of its files is told all the same."""

NETWORKS = 64
"""Networks that a worker keeps in memory, the latest asked about."""


def serve(pipe: Connection, threads: int | None) -> None:
    """Answer tasks (onnx, vnnlib, timeout, when it began, certificate, double) until the pipe closes. Interrupts are
    the parent's to handle, and with the parent this process ends.

    Sends ("ready", CPU seconds so far), then for every task (kind, its content, CPU seconds so far), where kind is
    `answered` (with the fields of a result), `refused` (a sentence of bad input) or `failed` (a traceback). Before that
    comes ("understood", None, CPU seconds so far) once the files are read, and where a certificate is wanted there may
    come ("decided", the fields of the result without it, CPU seconds so far).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_the_parent()
    sys.stdout = sys.stderr
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    from withstand.verification.network import read_network
    from withstand.verification.vnncomp import decide

    if threads is not None:
        torch.set_num_threads(threads)
    read = lru_cache(NETWORKS)(read_network)

    def decided(answer: "Answer") -> None:
        pipe.send(("decided", _fields(answer), time.process_time()))

    def understood() -> None:
        pipe.send(("understood", None, time.process_time()))

    answer = partial(decide, read=read, decided=decided, understood=understood)
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(("ready", None, time.process_time()))
        while True:
            kind, content = _answer(answer, *pipe.recv())
            pipe.send((kind, content, time.process_time()))


def _end_with_the_parent() -> None:
    """Ask Linux for SIGKILL when the parent ends, however it ends."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(
    decide: Callable[..., "Answer"],
    onnx: Path,
    vnnlib: Path,
    timeout: float | None,
    began: float,
    certificate: Path | None,
    double: bool,
) -> tuple[str, Any]:
    left = None if timeout is None else max(LEAST, timeout - (time.monotonic() - began))
    try:
        answer = decide(onnx, vnnlib, left, certificate=certificate, double=double)
    except InputError as error:
        return "refused", " ".join(str(error).split())
    except Exception:
        return "failed", traceback.format_exc()
    return "answered", _fields(answer)


def _fields(answer: "Answer") -> dict[str, Any]:
    witness = None if answer.witness is None else [tensor.flatten().tolist() for tensor in answer.witness]
    told = {"result": answer.result, "domains": answer.domains, "bound": answer.bound, "reason": answer.reason}
    return {**told, "certificate": str(answer.certificate or ""), "text": answer.text, "witness": witness}
