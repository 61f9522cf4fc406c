"""Functions made of straight pieces: their critical points are their kinks and jumps, whatever the slope."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from withstand.bounds.relax import Lines, Lower
from withstand.bounds.rule import Curvature, Elementwise, Slopes, add_rule, convex, mixed


def _straight(
    op: str, kinks: Callable[..., tuple[float, ...]], bend: Curvature, lines: Callable[..., Lines] | None = None
) -> None:
    def critical(lo: Tensor, hi: Tensor, slope: Tensor, /, **attrs: float) -> list[Tensor]:
        return [torch.full_like(lo, kink) for kink in kinks(**attrs)]

    add_rule(Elementwise(op, critical, bend, kinks=kinks, lines=lines))


def _at_zero(**attrs: float) -> tuple[float, ...]:
    return (0.0,)


def _relu_lines(lo: Tensor, hi: Tensor, lower: Lower) -> Lines:
    """Above by the chord; below through zero. Constant lines over infinite intervals."""
    top, bottom = hi.clamp(min=0), lo.clamp(max=0)
    ratio = top / (top - bottom).clamp(min=torch.finfo(lo.dtype).tiny)
    offset = torch.maximum(-ratio * bottom, top - ratio * top)
    if lower == "parallel":
        below = ratio
    else:
        rising = {"adaptive": top > -bottom, "one": top > 0, "zero": (bottom == 0) & (top > 0)}[lower]
        below = rising.to(lo.dtype)
    lines = Lines(below, torch.zeros_like(lo), ratio, offset)
    finite = (hi - lo).isfinite()
    if not bool(finite.all()):
        constant = Lines(torch.zeros_like(lo), lo.clamp(min=0), torch.zeros_like(lo), top)
        lines = Lines(*(torch.where(finite, line, end) for line, end in zip(lines, constant, strict=True)))
    return lines


_straight("relu", _at_zero, convex, _relu_lines)
_straight("abs", _at_zero, convex)
_straight("leaky_relu", _at_zero, convex)


def _clip_kinks(*, low: float = -math.inf, high: float = math.inf) -> tuple[float, ...]:
    return low, high


_straight("clip", _clip_kinks, mixed)


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
