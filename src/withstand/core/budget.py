"""Limits on a search: seconds of wall time, and queries a row."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from withstand.core.errors import InputError

_IN_FORCE: ContextVar[tuple["Budget", ...]] = ContextVar("budgets in force", default=())

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds from `90`, `90s`, `10m` or `1.5h`; InputError otherwise."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", text)
    if found is None or float(found[1]) <= 0:
        raise InputError(f"Budget {text!r} is not a duration; write for example 90s, 10m or 1.5h.")
    return float(found[1]) * _UNITS[found[2]]


class TimeOver(Exception):
    """Work left off in the middle, because its time was over."""


def check_time() -> None:
    """Raise TimeOver where the time of a budget is over inside which this is called (see `Budget.enforced`)."""
    if any(budget.spent for budget in _IN_FORCE.get()):
        raise TimeOver


@dataclass
class Budget:
    """seconds: wall time from now (None: no limit). queries: forward rows a sample (None: no limit). clock: tells the
    time in seconds (None: the machine's)."""

    seconds: float | None = None
    queries: int | None = None
    _began: float | None = None
    clock: Callable[[], float] | None = None

    def __post_init__(self) -> None:
        if self.queries is not None and self.queries < 1:
            raise InputError(f"A budget of {self.queries} queries is too small; give each sample at least 1.")
        if self._began is None:
            self._began = self.now()

    def now(self) -> float:
        """The time by the budget's own clock."""
        return time.monotonic() if self.clock is None else self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the budget was made."""
        assert self._began is not None
        return self.now() - self._began

    @property
    def left(self) -> float:
        """Seconds left (infinite without a limit, never negative)."""
        return float("inf") if self.seconds is None else max(0.0, self.seconds - self.elapsed)

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Inside, long work ends by TimeOver soon after the time is over, wherever it calls `check_time`."""
        token = _IN_FORCE.set(_IN_FORCE.get() if self.seconds is None else (*_IN_FORCE.get(), self))
        try:
            yield
        finally:
            _IN_FORCE.reset(token)

    def share(self, fraction: float, queries: int | None = None) -> "Budget":
        """A new budget of a fraction of the time left."""
        seconds = None if self.seconds is None else self.left * fraction
        return Budget(seconds, self.queries if queries is None else queries, clock=self.clock)
