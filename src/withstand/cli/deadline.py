"""A limit that ends the process itself, for steps that cannot be interrupted."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

OVERRUN = 1.04
"""The process is ended after so many times the limit: a search ends by itself when it sees the time, usually before."""


@contextlib.contextmanager
def hard_limit(seconds: float, last_words: Callable[[], None]) -> Iterator[None]:
    """While it holds, a thread waits for the time; when it is over, it calls `last_words` and ends the process with
    exit code 0. What runs in torch or onnxruntime does not keep that thread from running."""

    def end() -> None:
        if finished.acquire(blocking=False):
            last_words()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    finished = threading.Lock()
    timer = threading.Timer(OVERRUN * seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        finished.acquire()  # from here on the time can no longer end the process
