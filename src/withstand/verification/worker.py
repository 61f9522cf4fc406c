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

NETWORKS = 64
"""Networks that a worker keeps in memory, the latest asked about."""


def serve(pipe: Connection, threads: int | None) -> None:
    """Answer tasks (onnx, vnnlib, timeout, certificate) until the pipe closes. Interrupts are the parent's to handle.

    Sends ("ready", CPU seconds so far), then for every task (kind, its content, CPU seconds so far), where kind is
    `answered` (with the fields of a result), `refused` (a sentence of bad input) or `failed` (a traceback). Where a
    certificate is wanted ("decided", the fields of the result without it, CPU seconds so far) may come first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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

    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(("ready", None, time.process_time()))
        while True:
            kind, content = _answer(partial(decide, read=read, decided=decided), *pipe.recv())
            pipe.send((kind, content, time.process_time()))


def _answer(
    decide: Callable[..., "Answer"], onnx: Path, vnnlib: Path, timeout: float | None, certificate: Path | None
) -> tuple[str, Any]:
    try:
        answer = decide(onnx, vnnlib, timeout, certificate=certificate)
    except InputError as error:
        return "refused", " ".join(str(error).split())
    except Exception:
        return "failed", traceback.format_exc()
    return "answered", _fields(answer)


def _fields(answer: "Answer") -> dict[str, Any]:
    told = {"result": answer.result, "seconds": answer.seconds, "domains": answer.domains, "bound": answer.bound}
    return {**told, "certificate": str(answer.certificate or ""), "reason": answer.reason}
