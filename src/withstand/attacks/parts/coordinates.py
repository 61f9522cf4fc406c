"""Descent on a few coordinates at a time, whose slopes and curvatures come from differences of values."""

import torch
from torch import Tensor
from torch.nn import functional

from withstand.attacks.parts.probing import Adam
from withstand.core.rng import RowRandom

FLOOR = 0.02
"""Chance of a coordinate that has not moved, as a share of the largest."""


def pick(weights: Tensor, count: int, rng: RowRandom) -> Tensor:
    """`count` different coordinates of each row, with chances that follow weights [B, N]: [B, count]."""
    waits = -torch.log1p(-rng.uniform(tuple(weights.shape[1:]), torch.float64))
    return (weights / waits.clamp(min=1e-300)).topk(count, dim=1).indices


def importance(moves: Tensor) -> Tensor:
    """Chances [B, N] of the coordinates of moves [B, C, h, w]: the largest move nearby, within an eighth of the image,
    and at least a floor (Chen et al. 2017, section 3.5)."""
    size = tuple(max(1, n // 8) // 2 * 2 + 1 for n in moves.shape[2:])
    near = functional.max_pool2d(moves.abs(), size, stride=1, padding=(size[0] // 2, size[1] // 2)).flatten(1)
    top = near.amax(1, keepdim=True)
    return torch.where(top > 0, near.maximum(FLOOR * top), 1.0)


def differences(middle: Tensor, up: Tensor, down: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and curvature from values at a point [B, 1], a step `rise` above it and a step `fall` below [B, P]; the
    curvature is 0 where one of the steps is."""
    wide = (rise + fall).clamp(min=1e-300)
    slope = torch.where(rise + fall > 0, (up - down) / wide, 0.0)
    two = (rise > 0) & (fall > 0)
    bend = (up - middle) / rise.clamp(min=1e-300) - (middle - down) / fall.clamp(min=1e-300)
    return slope, torch.where(two, 2 * bend / wide, 0.0)


def newton(slope: Tensor, curvature: Tensor) -> Tensor:
    """Newton's step, to be taken downhill: curvatures below 0 count as 1, others as at least .1."""
    return slope / torch.where(curvature < 0, 1.0, curvature.clamp(min=0.1))


class CoordinateAdam(Adam):
    """Adam with means and a count of steps for every coordinate [B, N]."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(like)
        self.count = torch.zeros_like(like)

    def step_at(self, index: Tensor, slope: Tensor) -> Tensor:
        """The steps for the coordinates `index` [B, P], to be taken downhill."""
        part = Adam(slope)
        part.mean, part.square = self.mean.gather(1, index), self.square.gather(1, index)
        part.count = self.count.gather(1, index)
        step = part.step(slope)
        for whole, new in ((self.mean, part.mean), (self.square, part.square), (self.count, part.count)):
            whole.scatter_(1, index, new)
        return step
