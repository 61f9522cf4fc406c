"""Runs a training in a process that kills itself (SIGKILL) at a chosen moment.

Arguments: the training's name in `training`, the folder, and the moment: `step:N`, or `fsync:N` (before the N-th fsync
of a file, its content written).
"""

import os
import signal
import sys
from pathlib import Path

import torch
import training


def main(name: str, folder: str, moment: str) -> None:
    torch.set_num_threads(1)
    kind, _, number = moment.partition(":")
    seen = {"step": 0, "fsync": 0}

    def count(what: str) -> None:
        seen[what] += 1
        if kind == what and seen[what] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync

    def fsync(file: int) -> None:
        count("fsync")
        sync(file)

    os.fsync = fsync
    made = getattr(training, name)(Path(folder), checkpoint_every=2, on_step=lambda tick: count("step"))
    torch.manual_seed(3)
    made.fit()


if __name__ == "__main__":
    main(*sys.argv[1:])
