"""Lines around element-wise functions: every reader takes its relaxation from the exact range of f(x) - slope * x."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from withstand.bounds.envelope import candidates, narrowest, supporting
from withstand.bounds.rule import Box, Elementwise
from withstand.graph.ops import OPS

Lower = Literal["adaptive", "zero", "one", "parallel"]
"""Slope of an unstable ReLU's lower line: by the smaller area (Zhang et al. 2018, arXiv:1811.00866, "adaptive"), always
0, always 1, or the slope of the upper line. `parallel` gives every other function two parallel lines too."""

Attrs = Mapping[str, Any]


class Lines(NamedTuple):
    """lower_slope * x + lower_offset <= f(x) <= upper_slope * x + upper_offset, all [B, *shape]."""

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


def derivative(op: str, x: Tensor, attrs: Attrs) -> Tensor:
    """f'(x) by automatic differentiation, without a graph of its own."""
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        return torch.autograd.grad(OPS[op].run(point, **attrs).sum(), point)[0]


def offsets(rule: Elementwise, lo: Tensor, hi: Tensor, slope: Tensor, attrs: Attrs) -> Box:
    """The range of f(x) - slope * x over [lo, hi]: exact up to rounding; infinite where f is undefined in [lo, hi]."""
    low, high = torch.full_like(lo, torch.inf), torch.full_like(lo, -torch.inf)
    for point in candidates(rule, lo, hi, slope, attrs):
        rise = torch.where(slope == 0, 0.0, slope * point)
        value = OPS[rule.op].run(point, **attrs) - rise
        bad = value.isnan()
        low = torch.minimum(low, torch.where(bad, -torch.inf, value))
        high = torch.maximum(high, torch.where(bad, torch.inf, value))
    if rule.slack:
        size = torch.maximum(low.abs(), high.abs()) + torch.maximum(lo.abs(), hi.abs()) * slope.abs()
        room = rule.slack * torch.finfo(lo.dtype).eps * (size + 1)
        low, high = low - room, high + room
    if rule.undefined is not None:
        bad = rule.undefined(lo, hi, **attrs)
        low, high = low.masked_fill(bad, -torch.inf), high.masked_fill(bad, torch.inf)
    return low, high


def image(rule: Elementwise, lo: Tensor, hi: Tensor, attrs: Attrs) -> Box:
    """The range of f over [lo, hi], differentiable in lo and hi."""
    if rule.monotone and rule.kinks is not None:  # straight pieces round no value across another
        run = OPS[rule.op].run
        return run(lo, **attrs), run(hi, **attrs)
    return offsets(rule, lo, hi, torch.zeros_like(lo), attrs)


def chord(rule: Elementwise, lo: Tensor, hi: Tensor, attrs: Attrs) -> Tensor:
    """The slope between the interval's ends; 0 where the interval is infinite or has almost no width."""
    run = OPS[rule.op].run
    slope = (run(hi, **attrs) - run(lo, **attrs)) / (hi - lo)
    return torch.where(wide(lo, hi) & slope.isfinite(), slope, 0.0)


def wide(lo: Tensor, hi: Tensor) -> Tensor:
    """Whether an interval is finite and holds many numbers."""
    width = hi - lo
    return width.isfinite() & (width > 16 * torch.finfo(lo.dtype).eps * torch.maximum(lo.abs(), hi.abs()))


def _slopes(rule: Elementwise, lo: Tensor, hi: Tensor, attrs: Attrs) -> tuple[Tensor, Tensor]:
    """Slopes of the lower and the upper line that are nearest to f in the middle."""
    if rule.slopes is not None:
        return rule.slopes(lo, hi, **attrs)
    between = chord(rule, lo, hi, attrs)
    touch = derivative(rule.op, lo / 2 + hi / 2, attrs)
    touch = torch.where(touch.isfinite(), touch, between)
    bend = rule.curvature(lo, hi, **attrs)
    lower, upper = torch.where(bend > 0, touch, between), torch.where(bend < 0, touch, between)
    winding = (bend == 0) & wide(lo, hi)
    if bool(winding.any()):
        a, b, k = lo[winding], hi[winding], between[winding]
        for line, above in ((lower, False), (upper, True)):
            found = supporting(rule, a, b, a / 2 + b / 2, attrs, above)
            line[winding] = torch.where(found.isfinite(), found, k)
    return lower, upper


def lines(rule: Elementwise, box: Box, attrs: Attrs, lower: Lower = "adaptive") -> Lines:
    """A lower and an upper line over the box. Infinite or widthless intervals get constant lines."""
    lo, hi = (end.detach() for end in box)
    if rule.lines is not None:
        return rule.lines(lo, hi, lower)
    if lower == "parallel":
        slope, low, high = parallel(rule, (lo, hi), attrs)
        return Lines(slope, low, slope, high)
    below, above = _slopes(rule, lo, hi, attrs)
    flat = ~(hi - lo).isfinite() | (lo == hi)
    below, above = below.masked_fill(flat, 0.0), above.masked_fill(flat, 0.0)
    return Lines(below, offsets(rule, lo, hi, below, attrs)[0], above, offsets(rule, lo, hi, above, attrs)[1])


def parallel(rule: Elementwise, box: Box, attrs: Attrs) -> tuple[Tensor, Tensor, Tensor]:
    """One slope with the least and largest offset that are closest: the chord where f is convex or concave (DeepZ,
    Singh et al. 2018)."""
    lo, hi = box
    slope = chord(rule, lo, hi, attrs)
    winding = (rule.curvature(lo, hi, **attrs) == 0) & wide(lo, hi)
    if bool(winding.any()):
        found = narrowest(rule, lo[winding], hi[winding], attrs)
        slope[winding] = torch.where(found.isfinite(), found, slope[winding])
    low, high = offsets(rule, lo, hi, slope, attrs)
    return slope, low, high


def gap(rule: Elementwise, box: Box, attrs: Attrs) -> Tensor:
    """Where f is not a line over the box, up to rounding: bool [B, *shape]. Tighter boxes help only there."""
    lo, hi = box
    if rule.kinks is not None:
        inside = [(lo < kink) & (hi > kink) for kink in rule.kinks(**attrs)]
        return torch.stack(inside).any(0) if len(inside) > 1 else inside[0]
    slope = chord(rule, lo, hi, attrs)
    low, high = offsets(rule, lo, hi, slope, attrs)
    scale = torch.maximum(lo.abs(), hi.abs()) * slope.abs() + torch.maximum(low.abs(), high.abs())
    return (lo < hi) & ~(high - low <= 32 * torch.finfo(lo.dtype).eps * scale.clamp(min=1e-30))
