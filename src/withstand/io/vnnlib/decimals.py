"""Decimals of VNN-LIB files as exact numbers, and decimals for witnesses that lie within a file's own limits."""

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from withstand.core.errors import InputError

LARGEST = {"float32": 2.0**128 - 2.0**104, "float64": sys.float_info.max}
"""The largest number of each type that a network's inputs can have."""

LONGEST = 4000
"""Digits and powers of ten beyond which a number is refused: no limit needs them, and exact sums of such would take
for ever."""

DIGITS = 40
"""Digits after which no decimal of a number that has none of its own is looked for."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(?:[eE]([-+]?\d+))?")


@lru_cache(2**16)
def exact(word: str) -> Fraction | None:
    """The number that a decimal is, None where it is none. Raises InputError where it is too long to be meant."""
    found = _NUMBER.fullmatch(word)
    if found is None:
        return None
    if len(found[1]) > LONGEST or abs(int((found[2] or "0")[: LONGEST + 1])) > LONGEST:
        raise InputError(f"the number {word[:20]}... has more than {LONGEST} digits or zeros; write a shorter one.")
    return Fraction(word)


@dataclass(frozen=True)
class Limit:
    """One end of an interval. strict: the number itself lies outside."""

    at: Fraction
    strict: bool = False

    def double(self, up: bool) -> float:
        """The nearest double; of a strict lower (`up`) or upper limit the first double inside."""
        near = nearest(self.at)
        if self.strict and math.isfinite(near) and (Fraction(near) <= self.at if up else Fraction(near) >= self.at):
            near = math.nextafter(near, math.inf if up else -math.inf)
        return near


def nearest(number: Fraction) -> float:
    """The nearest double, infinite where that is beyond all."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def within(low: Limit, number: Fraction, high: Limit) -> bool:
    """Whether a number lies in an interval."""
    return (low.at < number if low.strict else low.at <= number) and (
        number < high.at if high.strict else number <= high.at
    )


def decimal_within(value: float, low: Limit, high: Limit, type: str) -> str | None:
    """A decimal within both limits that a runtime reads (as a double, then rounded to `type`) as this value.

    The value's own shortest decimal if that will do; else one of a double within the limits, where there is such a
    double; else a decimal between the limits that only rounds to it, such as the limit itself. None: there is none.
    """
    import numpy as np

    kind, rounded = np.dtype(type).type, None
    with np.errstate(over="ignore"):
        for text in _candidates(value, low, high):
            double = float(text)
            if within(low, Fraction(text), high) and float(kind(double)) == value:
                if within(low, Fraction(double), high):
                    return text
                rounded = rounded or text
    return rounded


def _candidates(value: float, low: Limit, high: Limit) -> Iterator[str]:
    yield repr(value)
    yield str(Decimal(value))
    for limit, up in ((low, True), (high, False)):
        near = nearest(limit.at)
        for double in (near, math.nextafter(near, math.inf if up else -math.inf)):
            if math.isfinite(double):
                yield repr(double)
                yield str(Decimal(double))
    yield from _written(low.at, up=True)
    yield from _written(high.at, up=False)
    yield from _written((low.at + high.at) / 2, up=True)


def _written(number: Fraction, up: bool) -> Iterator[str]:
    """Decimals of a number with more and more digits, rounded up or down, and at last all of them if they end."""
    if not number:
        yield "0.0"
        return
    exponent = math.floor(math.log10(abs(number.numerator)) - math.log10(number.denominator))
    for digits in range(17, DIGITS):
        scaled = number * Fraction(10) ** (digits - exponent)
        whole = math.ceil(scaled) if up else math.floor(scaled)
        yield f"{whole}e{exponent - digits}"
    rest = number.denominator
    twos = fives = 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest == 1:
        places = max(twos, fives)
        yield f"{number * 10**places}e{-places}"
