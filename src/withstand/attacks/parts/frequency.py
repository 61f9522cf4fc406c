"""Random smooth images: mixtures of the lowest waves of the discrete cosine transform."""

import math

import torch
from torch import Tensor

from withstand.core.rng import RowRandom


def smooth_noise(shape: tuple[int, ...], share: float, count: int, rng: RowRandom, like: Tensor) -> Tensor:
    """`count` random images of a shape for every row [B, count, *shape]: normal weights on the waves along the last two
    axes whose frequency is in the lowest `share`. With a share of 1, or along an axis of up to 8 values, all are."""
    axes = shape[-2:]
    waves = [_waves(n, n if n <= 8 else max(1, math.ceil(share * n))).to(like) for n in axes]
    kept = tuple(len(w) for w in waves)
    x = rng.normal((count, *shape[: -len(axes)], *kept), like.dtype)
    for axis, wave in zip(range(-len(axes), 0), waves):
        if len(wave) < wave.shape[1]:
            x = _mix(x, wave, axis)
    return x


def _waves(size: int, kept: int) -> Tensor:
    """The lowest `kept` cosine waves over `size` places, each of length 1: [kept, size]."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    waves = (torch.arange(kept, dtype=torch.float64)[:, None] * places).cos()
    return waves / torch.linalg.vector_norm(waves, dim=1, keepdim=True)


def _mix(x: Tensor, wave: Tensor, axis: int) -> Tensor:
    """The waves mixed by the weights along an axis, added one after another, so that no row depends on the batch."""
    weights = x.movedim(axis, -1)
    mixed = weights[..., :1] * wave[0]
    for k in range(1, len(wave)):
        mixed = mixed + weights[..., k : k + 1] * wave[k]
    return mixed.movedim(-1, axis)
