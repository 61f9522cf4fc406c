"""How long this process has been running: a time limit holds from its start, before any line of withstand ran."""

import os
import time

_STARTED = 19
"""Where /proc/self/stat holds the start, in clock ticks since the machine's, counted behind the command's name."""


def process_age() -> float:
    """Seconds since this process began, as Linux tells; 0 where it does not."""
    try:
        with open("/proc/self/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_STARTED]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
