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

MOVED = 1e-6
"""How much float32 rounds the places of moved pixels by, in shares of the longer side of the picture."""


FINE = 1e-8
"""What both are multiplied by for inputs of float64, which rounds so much less."""


def reach(radius: Radius, domain: tuple[float, float], fine: bool = False) -> Radius:
    """The radius that membership and proofs use: a rounding error more than asked, so that they agree.

    fine: inputs are of float64, not of float32.
    """
    scale = max([1.0, *(abs(edge) for edge in domain if math.isfinite(edge))])
    share = FINE if fine else 1.0
    return radius * (1 + SLACK * share) + FLOOR * share * scale  # type: ignore[operator]
