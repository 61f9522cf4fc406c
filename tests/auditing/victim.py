"""Runs an audit in a process of its own that kills itself (SIGKILL) at a chosen moment, or interrupts itself.

Arguments: model, data, threat, folder, workers, and the moment: `event:N`, `fsync:N` (before the N-th fsync of a file,
its content perhaps written), `interrupt:N` (Ctrl-C at event N) or `never`.
"""

import os
import signal
import sys

from lab import PLAN

import withstand


def main(model: str, data: str, threat: str, folder: str, workers: str, moment: str) -> None:
    kind, _, number = moment.partition(":")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background leaves it ignored
    seen = {"event": 0, "fsync": 0}

    def count(what: str) -> None:
        seen[what] += 1
        if kind == what and seen[what] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "interrupt" and what == "event" and seen[what] == int(number):
            os.kill(os.getpid(), signal.SIGINT)

    sync = os.fsync

    def fsync(file: int) -> None:
        count("fsync")
        sync(file)

    os.fsync = fsync
    result = withstand.audit(
        model,
        data,
        threat=threat,
        plan=PLAN,
        out=folder,
        workers=int(workers),
        batch=16,
        progress=lambda event: count("event"),
    )
    print(result.state)


if __name__ == "__main__":
    main(*sys.argv[1:])
