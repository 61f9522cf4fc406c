"""Max pooling as columns, rows and pairs: in every window a share for each input that may be the largest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from withstand.verification.milp.program import Array, Form, Program, spread, summed


def windows(shape: Sequence[int], out: Sequence[int], attrs: Mapping[str, Any]) -> Array:
    """Flat positions of the inputs of every window of a pool over a value [C, *spatial]: [windows, kernel], -1 for
    padding."""
    index = torch.arange(int(np.prod(shape))).reshape(*shape)
    for axis in range(1, len(shape)):
        kernel, stride, padding, dilation = (
            attrs[name][axis - 1] for name in ("kernel", "stride", "padding", "dilation")
        )
        span = (kernel - 1) * dilation + 1
        pads = [0] * (2 * index.dim())
        pads[2 * (index.dim() - 1 - axis)] = padding
        pads[2 * (index.dim() - 1 - axis) + 1] = padding + span + stride
        index = torch.nn.functional.pad(index, pads, value=-1).unfold(axis, span, stride)[..., ::dilation]
        index = index.narrow(axis, 0, out[axis])
    return index.reshape(int(np.prod(out)), -1).numpy()


def largest(program: Program, z: Form, low: Array, high: Array, index: Array) -> Form:
    """The largest of forms z, with low <= z <= high, in every window `index` [windows, kernel] (-1: none)."""
    lows = np.where(index < 0, -np.inf, low[index])
    highs = np.where(index < 0, -np.inf, high[index])
    every, best = np.arange(len(index)), lows.argmax(1)
    rivals = (highs >= lows.max(1)[:, None]) & (index >= 0)
    rivals[every, best] = True
    contested = (rivals.sum(1) > 1).nonzero()[0]
    decided = np.ones(len(index))
    decided[contested] = 0.0
    value = z[index[every, best]].scaled(decided)
    if not len(contested):
        return value
    some = (part[contested] for part in (index, rivals, lows, highs))
    return value + spread(_contested(program, z, *some), contested, len(index))


def _contested(program: Program, z: Form, index: Array, rivals: Array, lows: Array, highs: Array) -> Form:
    """Windows in which several inputs may be the largest: its share is 1, all others' are 0, and by as much as the
    largest exceeds an input, that input has no share (Tjeng et al. 2019, arXiv:1711.07356, section 4.1)."""
    window, place = rivals.nonzero()
    own = z[index[window, place]]
    highs = np.where(rivals, highs, -np.inf)
    top = np.sort(highs, 1)
    others = np.where(highs == top[:, -1:], top[:, -2:-1], top[:, -1:])
    room = (np.maximum(others, lows) - lows)[window, place]
    first = np.r_[0, np.diff(window).nonzero()[0] + 1]

    def most(columns: Array) -> Array:
        return np.maximum.reduceat(own.value(columns), first)

    def shares(columns: Array) -> Array:
        equal = own.value(columns) == most(columns)[window]
        before = np.cumsum(equal) - equal
        return (equal & (before == before[first][window])).astype(float)

    value = program.add(np.where(rivals, lows, -np.inf).max(1), top[:, -1], most)
    excess = program.add(np.zeros(len(window)), room, lambda columns: most(columns)[window] - own.value(columns))
    program.constrain(value[window] - excess - own, 0.0, 0.0)
    share = program.add(np.zeros(len(window)), np.ones(len(window)), shares)
    program.constrain(summed(share, window), 1.0, 1.0)
    program.pair(excess, share)
    return value
