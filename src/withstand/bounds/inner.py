"""How far inside a threat bounds clear a level: lines over a ball are read over smaller balls, which costs no pass."""

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 14
"""Halvings of the radius: known to a 16,000th of where the search begins."""


def widest(
    value: Callable[[Tensor], Tensor], radii: Tensor, level: Tensor, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """The largest radii [B] up to `radii` [B] at which value(radius) is above `level`, all [B], and the values there.

    value: falls, or stays, as the radius grows. The answer is 0 where even value(0) is not above the level.
    """
    low, high = torch.zeros_like(radii), radii
    found = value(low).to(radii)
    hopeful = found > level
    at_end = value(high).to(radii)
    reached = at_end > level
    low, found = torch.where(reached, high, low), torch.where(reached, at_end, found)
    for _ in range(steps):
        middle = torch.where(hopeful & ~reached, (low + high) / 2, low)
        here = value(middle).to(radii)
        holds = here > level
        low, found = torch.where(holds, middle, low), torch.where(holds, here, found)
        high = torch.where(holds, high, middle)
    return low, found
