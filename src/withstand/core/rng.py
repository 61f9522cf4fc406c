"""Random numbers that belong to a row: the same whatever batch, order, worker or resume the row is computed in.

Counter-based: every number is a hash (splitmix64's finaliser, Steele et al. 2014, doi:10.1145/2660193.2660195) of the
row's seed, the draw and the element, computed for all rows at once.
"""

import hashlib
import math
from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

GOLDEN = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed 64-bit integer: 2^64 over the golden ratio, whose multiples spread evenly."""

_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def row_seeds(run_seed: int, ids: Iterable[int], method: str) -> Tensor:
    """One 64-bit seed a row, hashed from the run's seed, the sample's id and the method's name: int64 [B]."""

    def seed(i: int) -> int:
        digest = hashlib.blake2b(f"{run_seed}/{int(i)}/{method}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)

    return torch.tensor([seed(i) for i in ids], dtype=torch.int64)


def label_of(text: str) -> int:
    """A number below 2^63 for a text, as a label of `RowRandom.fork` or a generator's seed."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class RowRandom:
    """Streams of random numbers, one a row. Each call draws the next numbers of every row's own stream.

    `shape` arguments are shapes of one row; results have the batch axis in front.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.seeds = seeds
        self._draws = 0

    def fork(self, label: int | Tensor) -> "RowRandom":
        """Streams of their own, one for every label (int64 [B]: a label a row); they take nothing from these."""
        return _Fork(self.seeds, label)

    def spread(self, copies: int) -> "RowRandom":
        """So many streams for every row, one after another; the first is the row's own."""
        return RowRandom((self.seeds[:, None] + torch.arange(copies, device=self.seeds.device) * GOLDEN).flatten())

    def bits(self, shape: tuple[int, ...]) -> Tensor:
        """64 random bits an element as int64 [B, *shape]."""
        self._draws += 1
        key = _mix(self.seeds + self._draws * GOLDEN % 2**63)
        index = torch.arange(1, math.prod(shape) + 1, device=key.device, dtype=torch.int64) * GOLDEN
        return _mix(key[:, None] + index).reshape(len(key), *shape)

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in [0, 1)."""
        kept = 53 if dtype == torch.float64 else 24
        return _shift(self.bits(shape), 64 - kept).to(dtype) * 2.0**-kept

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers (Box and Muller)."""
        radius = (-2 * torch.log1p(-self.uniform(shape, torch.float64))).sqrt()
        return (radius * torch.cos(2 * math.pi * self.uniform(shape, torch.float64))).to(dtype)

    def radius(self, dimensions: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The distance [B] from the centre of a uniform point in a unit ball of so many dimensions, at least 1: the
        root of a uniform number.

        By exp and log, because torch's power rounds the last numbers of a tensor unlike the others, so that a row's
        would depend on the batch."""
        return (self.uniform((), dtype).log() / max(1, dimensions)).exp()

    def signs(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """-1 or +1 with equal chance."""
        return (self.bits(shape) & 1).to(dtype) * 2 - 1

    def integers(self, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Whole numbers in [0, high); `high` may be a tensor that broadcasts against [B, *shape]."""
        drawn = (self.uniform(shape, torch.float64) * high).long()
        return torch.minimum(drawn, torch.as_tensor(high) - 1)


class _Fork(RowRandom):
    """Streams whose seeds are hashed when they are first drawn from: most are made and never used."""

    def __init__(self, parents: Tensor, label: int | Tensor) -> None:
        self._parents, self._label = parents, label
        self._draws = 0

    @cached_property
    def seeds(self) -> Tensor:  # type: ignore[override]
        """The seeds: int64 [B]."""
        return _mix(_mix(self._parents) + (self._label * GOLDEN & (2**63 - 1)))
