"""Where the best lines of a slope touch a function: what the offsets of lines change by when their slopes do."""

import torch
from torch import Tensor

from withstand.bounds.envelope import candidates
from withstand.bounds.relax import Attrs
from withstand.bounds.rule import Elementwise
from withstand.graph.ops import OPS


def touch(rule: Elementwise, lo: Tensor, hi: Tensor, slope: Tensor, attrs: Attrs, above: bool) -> Tensor:
    """The point of [lo, hi] where f(x) - slope * x is least, or largest for a line above."""
    points = torch.stack([point.expand_as(lo) for point in candidates(rule, lo, hi, slope, attrs)])
    value = OPS[rule.op].run(points, **attrs) - slope * points
    value = torch.where(value.isnan(), -torch.inf if above else torch.inf, value)
    best = value.argmax(0) if above else value.argmin(0)
    return points.gather(0, best[None])[0]
