"""Functions made of straight pieces: their critical points are their kinks and jumps, whatever the slope."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from withstand.bounds.rule import Elementwise, Slopes, add_rule, convex


def _zero(lo: Tensor, hi: Tensor, slope: Tensor, /, **attrs: float) -> list[Tensor]:
    return [torch.zeros_like(lo)]


add_rule(Elementwise("relu", _zero, convex))
add_rule(Elementwise("abs", _zero, convex))
add_rule(Elementwise("leaky_relu", _zero, convex))


def _clip_kinks(lo: Tensor, hi: Tensor, slope: Tensor, *, low: float = -math.inf, high: float = math.inf):
    return [torch.full_like(lo, low), torch.full_like(lo, high)]


add_rule(Elementwise("clip", _clip_kinks))


def _constant(lo: Tensor, hi: Tensor, **attrs: float) -> Slopes:
    return torch.zeros_like(lo), torch.zeros_like(lo)


def _beside(jump: Tensor) -> list[Tensor]:
    """A jump and the numbers next to it on both sides."""
    up = torch.full_like(jump, math.inf)
    return [jump, torch.nextafter(jump, -up), torch.nextafter(jump, up)]


def _sign_jump(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return _beside(torch.zeros_like(lo))


def _staircase_jumps(lo: Tensor, hi: Tensor, first: Callable, last: Callable) -> list[Tensor]:
    """The first and last jump of the interval, between which only the trend matters, and the one nearest to zero, where
    neighbouring numbers are closest."""
    least = torch.minimum(torch.maximum(torch.zeros_like(lo), lo), hi)
    return [point for jump in (first(lo), last(hi), first(least), last(least)) for point in _beside(jump)]


def _floor_jumps(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return _staircase_jumps(lo, hi, torch.ceil, torch.floor)


def _round_jumps(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return _staircase_jumps(lo, hi, lambda t: (t - 0.5).ceil() + 0.5, lambda t: (t - 0.5).floor() + 0.5)


def _staircase(lo: Tensor, hi: Tensor) -> Slopes:
    """Staircases follow x over intervals wider than a step, and are bounded by constants below that."""
    slope = (hi - lo > 2).to(lo.dtype)
    return slope, slope


add_rule(Elementwise("sign", _sign_jump, slopes=_constant))
add_rule(Elementwise("floor", _floor_jumps, slopes=_staircase))
add_rule(Elementwise("round", _round_jumps, slopes=_staircase))
