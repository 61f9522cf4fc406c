"""How large what a file declares may become, checked before anything of that size is made."""

import math
from collections.abc import Sequence

MOST = 2**27
"""Numbers of one value: half a gigabyte of float32."""

MOST_WORK = 2**36
"""Products of numbers that one constant may take."""

MOST_STEPS = 1000
"""Rounds of a loop that computes a constant."""


def too_large(shape: Sequence[int]) -> str | None:
    """Why a value of this shape is not made, or None where it may be."""
    if math.prod(max(0, int(size)) for size in shape) <= MOST:
        return None
    return f"declares {' x '.join(map(str, shape))} numbers, more than the {MOST:,} that are made of one value"
