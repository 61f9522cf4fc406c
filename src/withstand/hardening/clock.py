"""Wall and processor seconds of an epoch."""

import time


class Clock:
    """Counts from when it was made, or from the last reading that was not kept."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def passed(self, keep: bool = False) -> tuple[float, float]:
        """Wall and processor seconds since then; the clock goes on from there with `keep`, else it starts anew."""
        wall, cpu = time.monotonic(), time.process_time()
        passed = wall - self._wall, cpu - self._cpu
        if not keep:
            self._wall, self._cpu = wall, cpu
        return passed
