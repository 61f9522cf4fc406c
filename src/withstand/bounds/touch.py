"""The best lines of given slopes around a function: how high they lie, and where they touch it, which is what their
offsets change by when their slopes do."""

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.envelope import candidates
from withstand.bounds.relax import Attrs
from withstand.bounds.rule import Elementwise
from withstand.graph.ops import OPS


def supports(
    rule: Elementwise, lo: Tensor, hi: Tensor, slope: Tensor, attrs: Attrs, above: bool
) -> tuple[Tensor, Tensor]:
    """The least of f(x) - slope * x over [lo, hi] (the largest for a line above), as `relax.offsets` gives it, and
    where it is."""
    sign = -1.0 if above else 1.0
    offset, place = torch.full_like(slope, torch.inf), lo
    for point in candidates(rule, lo, hi, slope, attrs):
        value = sign * (OPS[rule.op].run(point, **attrs) - slope * point)
        value = torch.where(value.isnan(), -torch.inf, value)
        better = value < offset
        offset, place = torch.where(better, value, offset), torch.where(better, point, place)
    if rule.slack:
        size = torch.maximum(lo.abs(), hi.abs()) * slope.abs() + offset.abs() + 1
        offset = offset - rule.slack * torch.finfo(lo.dtype).eps * size
    if rule.undefined is not None:
        offset = offset.masked_fill(rule.undefined(lo, hi, **attrs), -torch.inf)
    return sign * offset, place


def slope_range(rule: Elementwise, lo: Tensor, hi: Tensor, attrs: Attrs) -> tuple[Tensor, Tensor]:
    """Between which slopes the best lines around f on [lo, hi] are: those of its chords over small parts.

    A choice, on which no soundness rests; zero where f is not finite.
    """
    run = OPS[rule.op].run
    share = torch.tensor(SHARES, dtype=lo.dtype).reshape(-1, *(1,) * lo.dim())
    x = lo + share * (hi - lo)
    chords = (run(x[1:], **attrs) - run(x[:-1], **attrs)) / (x[1:] - x[:-1])
    chords = torch.where(relax.wide(x[:-1], x[1:]) & chords.isfinite(), chords, relax.chord(rule, lo, hi, attrs))
    return chords.amin(0), chords.amax(0)


SHARES = (0.0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98, 1.0)
"""Ends of the parts over which chords are taken: short ones at the ends, where slopes are steepest."""
