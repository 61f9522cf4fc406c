"""Random changes of training images that keep their class. Each row draws from its own stream of random numbers, so
that what happens to it does not depend on the batch it is in."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from withstand.core.rng import RowRandom

Augment = Callable[[Tensor, RowRandom], Tensor]
"""From images [B, C, H, W] and the rows' random numbers to images of the same shape. Parameters of the functions here
are bound by `functools.partial`."""


def shifted(x: Tensor, rng: RowRandom, *, pixels: int = 1, share: float = 1.0) -> Tensor:
    """Images moved by up to so many pixels each way, all moves equally likely; the edge is filled with 0.

    share: of the images that move at all. Four pixels are usual for CIFAR-10 (He et al. 2016, arXiv:1512.03385).
    """
    count, channels, height, width = x.shape
    offset = rng.integers(2 * pixels + 1, (2,))
    offset[rng.uniform(()) >= share] = pixels
    rows = offset[:, :1] + torch.arange(height, device=x.device)
    columns = offset[:, 1:] + torch.arange(width, device=x.device)
    at = rows[:, None, :, None], columns[:, None, None, :]
    row, channel = torch.arange(count, device=x.device), torch.arange(channels, device=x.device)
    return F.pad(x, (pixels,) * 4)[row[:, None, None, None], channel[:, None, None], *at]


def mirrored(x: Tensor, rng: RowRandom) -> Tensor:
    """Half of the images, left and right exchanged."""
    turn = rng.uniform(()) < 0.5
    return torch.where(turn[:, None, None, None], x.flip(3), x)
