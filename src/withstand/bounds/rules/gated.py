"""SiLU and GELU: concave, convex, concave. Their derivatives are inverted by tables between the inflection points."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from withstand.bounds.relax import derivative
from withstand.bounds.rule import Elementwise, add_rule, pieces

NODES = 1 << 14
"""Points of a table; linear interpolation between them finds a place to about 1e-8, and f there to about 1e-16."""

INFLECTION = {"silu": 2.399357280515467, "none": math.sqrt(2), "tanh": 1.4185040087908283}
"""Where the function bends, by its name or by the formula of GELU; symmetric about zero."""

TAIL = {"silu": 45.0, "none": 12.0, "tanh": 12.0}
"""Where the function has become a straight line, up to rounding."""


@lru_cache(maxsize=64)
def _inverses(op: str, kind: str, dtype: torch.dtype, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For each interval on which f' is monotone: rising values of f', and their places. Nodes are dense at inflections,
    where f' hardly changes."""
    bend, tail = INFLECTION[kind], TAIL[kind]
    attrs = {} if kind == op else {"approximate": kind}
    even = torch.linspace(0, 1, NODES, dtype=torch.float64)
    outside = bend + (tail - bend) * even**2
    inside = -bend * torch.cos(math.pi * even)
    tables = []
    for places in (outside, inside, -outside):
        slopes = derivative(op, places, attrs)
        if slopes[0] > slopes[-1]:
            places, slopes = places.flip(0), slopes.flip(0)
        tables.append((slopes.cummax(0).values.to(device, dtype), places.to(device, dtype)))
    return tables


def _places(op: str, kind: str, slope: Tensor) -> list[Tensor]:
    """Where f' is `slope`, a place for each interval between inflections: an arbitrary one if f' nowhere has it."""
    found = []
    slope = slope.contiguous()
    for slopes, places in _inverses(op, kind, slope.dtype, slope.device):
        right = torch.searchsorted(slopes, slope).clamp(1, NODES - 1)
        left, width = slopes[right - 1], slopes[right] - slopes[right - 1]
        share = ((slope - left) / width.clamp(min=torch.finfo(slope.dtype).tiny)).clamp(0, 1)
        found.append(torch.lerp(places[right - 1], places[right], share))
    return [*found, torch.full_like(slope, -TAIL[kind]), torch.full_like(slope, TAIL[kind])]


def _silu(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return _places("silu", "silu", slope)


def _gelu(lo: Tensor, hi: Tensor, slope: Tensor, *, approximate: str = "none") -> list[Tensor]:
    return _places("gelu", approximate, slope)


def _bend(op: str) -> Any:
    def curvature(lo: Tensor, hi: Tensor, **attrs: Any) -> Tensor:
        bend = INFLECTION[attrs.get("approximate", "none") if op == "gelu" else op]
        return pieces([-bend, bend], [-1, 1, -1])(lo, hi)

    return curvature


add_rule(Elementwise("silu", _silu, _bend("silu"), slack=16))
add_rule(Elementwise("gelu", _gelu, _bend("gelu"), slack=16))
