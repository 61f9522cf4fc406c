"""Shrinking boxes by their own bounds: a violation lies where every row of some group may be low."""

import torch
from torch import Tensor


def shrink(
    low: Tensor, high: Tensor, edge: Tensor, slope: Tensor, level: Tensor, rounds: int = 3
) -> tuple[Tensor, Tensor]:
    """The boxes low, high [K, n] cut to where every line may be at most level [K]; some low > high where none is left.

    edge [K, M], slope [K, M, n]: the lines, by their least value on the box. Each round cuts every input by every line
    with the other inputs at their best.
    """
    rise, fall = slope > 0, slope < 0
    steep = slope.abs().clamp(min=1e-30)
    start = edge - torch.where(rise, slope * low[:, None], slope * high[:, None]).sum(2)
    for turn in range(rounds):
        if turn:
            edge = start + torch.where(rise, slope * low[:, None], slope * high[:, None]).sum(2)
        room = (level[:, None] - edge)[:, :, None] / steep
        above = torch.where(rise, low[:, None] + room, torch.inf).amin(1)
        below = torch.where(fall, high[:, None] - room, -torch.inf).amax(1)
        low, high = torch.maximum(low, below), torch.minimum(high, above)
    return low, high
