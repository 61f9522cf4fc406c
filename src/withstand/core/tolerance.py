"""How much rounding a witness may hide behind: one rule for the judge (torch) and for replay (numpy)."""

import math
from typing import TypeVar

Radius = TypeVar("Radius")
"""A number, or an array of them."""

SLACK = 1e-6
"""Share of the radius by which float32 rounds distances."""

FLOOR = 1e-7
"""Share of the largest value of the domain, at least 1, by which float32 rounds inputs."""

GRID = 1e-4
"""How far from a whole number, in steps of the grid, a quantised input may lie."""

EDGE = 1e-6
"""Share of the largest edge of a domain, at least 1, by which inputs may lie beyond it before they are brought back."""

MOVED = 1e-6
"""How much float32 rounds the places of moved pixels by, in shares of the longer side of the picture."""


def grid(domain: tuple[float, float], levels: int) -> tuple[float, float]:
    """The values of an input of so many steps: the first one and how many steps there are in a unit. They fill the
    domain; where it has no end, they are the multiples of 1 / levels."""
    low, high = domain
    if not math.isfinite(high - low):
        return 0.0, float(levels)
    return low, levels / (high - low)


def bytes_in(domain: tuple[float, float]) -> tuple[float, float] | None:
    """On what scale whole numbers from 0 to 255 lie in a domain: the value of 0 and how many steps there are in a unit.

    A domain that holds 0 to 255 takes them as they are. They fill one of [0, 1], a symmetric one and one that is 255
    wide, and where it has no end they are shares of 255, as images are. None: the domain does not say.
    """
    low, high = domain
    if not math.isfinite(high - low):
        return 0.0, 255.0
    if low <= 0 and high >= 255:
        return 0.0, 1.0
    return grid(domain, 255) if domain == (0.0, 1.0) or low == -high or high - low == 255 else None


FINE = 1e-8
"""What both are multiplied by for inputs of float64, which rounds so much less."""


def reach(radius: Radius, domain: tuple[float, float], fine: bool = False) -> Radius:
    """The radius that membership and proofs use: a rounding error more than asked, so that they agree.

    fine: inputs are of float64, not of float32.
    """
    scale = max([1.0, *(abs(edge) for edge in domain if math.isfinite(edge))])
    share = FINE if fine else 1.0
    return radius * (1 + SLACK * share) + FLOOR * share * scale  # type: ignore[operator]
