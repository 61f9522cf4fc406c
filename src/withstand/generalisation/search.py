"""The least number of samples that an error rate needs."""

from collections.abc import Callable

from withstand.core.errors import InputError


def least_samples(error: Callable[[int], float], target: float, most: int) -> int | None:
    """An n in 1 .. most whose error is at most `target` while that of n - 1 is above; None where `most` do not suffice.

    Doubling and bisection, about 2 log2 n evaluations; it is the least such n where the error falls with n. Raises
    InputError for `most` below 1.
    """
    if most < 1:
        raise InputError(f"{most} samples leave nothing to try; give 1 or more.")
    low, high = 0, 1
    while error(high) > target:
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if error(middle) > target:
            low = middle
        else:
            high = middle
    return high
