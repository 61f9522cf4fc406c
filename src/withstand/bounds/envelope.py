"""Best lines around an element-wise function that is neither convex nor concave, found from its critical points alone.

A line below f with the largest value at a point t supports the convex envelope of f there. Its slope k maximises the
concave function min_x (f(x) - k x) + k t, whose tangents are known by the places where the minimum is attained: a
search by cutting planes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from withstand.bounds.rule import Elementwise
from withstand.graph.ops import OPS

ROUNDS = 8
"""Steps of a search; the interval around a smooth touching point halves in each, chords to kinks converge faster."""


def candidates(rule: Elementwise, lo: Tensor, hi: Tensor, slope: Tensor, attrs: Mapping[str, Any]) -> list[Tensor]:
    """Points of [lo, hi] among which f(x) - slope * x is least and largest."""
    if rule.monotone and not bool((slope != 0).any()):
        return [lo, hi]
    with torch.no_grad():
        found = rule.critical(lo, hi, slope, **attrs)
        return [lo, hi, *(torch.minimum(torch.maximum(torch.where(p.isnan(), lo, p), lo), hi) for p in found)]


def _least(
    rule: Elementwise, lo: Tensor, hi: Tensor, slope: Tensor, attrs: Mapping[str, Any], sign: float
) -> tuple[Tensor, Tensor]:
    """Where sign * (f(x) - slope * x) is least, and f there."""
    run, least = OPS[rule.op].run, torch.full_like(lo, torch.inf)
    place, value = lo, lo
    for point in candidates(rule, lo, hi, slope, attrs):
        f = run(point, **attrs)
        above = sign * torch.addcmul(f, slope, point, value=-1)
        better = above < least
        least = torch.where(better, above, least)
        place, value = torch.where(better, point, place), torch.where(better, f, value)
    return place, value


def supporting(
    rule: Elementwise, lo: Tensor, hi: Tensor, at: Tensor, attrs: Mapping[str, Any], upper: bool = False
) -> Tensor:
    """Slope of the line below f on [lo, hi] (or above it) that is nearest to f at the points `at`; NaN where f is not
    finite at both ends. Over a box's middle, that is the line of least mean distance from f."""
    run = OPS[rule.op].run
    left, right, f_left, f_right = lo, hi, run(lo, **attrs), run(hi, **attrs)
    slope = (f_right - f_left) / (right - left)
    for _ in range(ROUNDS):
        touch, value = _least(rule, lo, hi, slope, attrs, -1.0 if upper else 1.0)
        early = touch <= at
        left, f_left = torch.where(early, touch, left), torch.where(early, value, f_left)
        right, f_right = torch.where(early, right, touch), torch.where(early, f_right, value)
        apart = right - left > (hi - lo) / 512
        slope = torch.where(apart, (f_right - f_left) / (right - left), slope)
    return slope


def narrowest(rule: Elementwise, lo: Tensor, hi: Tensor, attrs: Mapping[str, Any]) -> Tensor:
    """Slope of the two parallel lines around f on [lo, hi] that are closest to each other; NaN where f is not finite at
    both ends."""
    run = OPS[rule.op].run
    f_lo, f_hi = run(lo, **attrs), run(hi, **attrs)
    # The distance at slope k is at least (rise - k * run) for the places of its extremes at any slope.
    rise, across = f_hi - f_lo, hi - lo
    back_rise, back = -rise, -across
    slope = rise / across
    for _ in range(ROUNDS):
        least, f_least = _least(rule, lo, hi, slope, attrs, 1.0)
        most, f_most = _least(rule, lo, hi, slope, attrs, -1.0)
        falls = most > least
        rise, across = torch.where(falls, f_most - f_least, rise), torch.where(falls, most - least, across)
        back_rise = torch.where(falls, back_rise, f_most - f_least)
        back = torch.where(falls, back, most - least)
        apart = across - back > (hi - lo) / 512
        slope = torch.where(apart, (rise - back_rise) / (across - back), slope)
    return slope
