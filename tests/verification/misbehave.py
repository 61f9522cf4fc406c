"""A worker in place of `withstand.verification.worker.serve` that does what the name of the question says."""

import os
import signal
import time
from pathlib import Path


def serve(pipe, threads):
    """Speak the worker's protocol, without torch."""
    pipe.send(("ready", None, time.process_time()))
    while True:
        _, vnnlib, timeout, began, certificate, _ = pipe.recv()
        word = Path(vnnlib).stem.split("_")[0]
        if word != "slow":
            pipe.send(("understood", None, time.process_time()))
        if word == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "exit":
            os._exit(7)
        if word in ("proved", "crashed"):
            told = {"result": "unsat", "seconds": 0.01, "domains": 4, "bound": 0.5, "certificate": "", "reason": ""}
            pipe.send(("decided", told, time.process_time()))
            if word == "crashed":
                os._exit(7)
        if word in ("hang", "proved", "slow"):
            while True:  # deaf to the time, as a long step in a library is
                pass
        kind, content = "answered", {"result": word, "domains": 4, "bound": 0.5}
        if word == "late":
            time.sleep(began + 1.01 * timeout - time.monotonic())
            content["result"] = "timeout"
        if word in ("refused", "failed"):
            kind, content = word, f"it was {word}"
        if isinstance(content, dict):
            content |= {"certificate": str(certificate or ""), "reason": f"by process {os.getpid()}"}
        pipe.send((kind, content, time.process_time()))


def cannot_start(pipe, threads):
    """A worker that dies before it is ready."""
    os._exit(5)


def never_ready(pipe, threads):
    """A worker that takes longer to start than any question's time."""
    time.sleep(60.0)
