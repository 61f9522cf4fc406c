"""Lines around element-wise functions against the best ones, found by brute force over dense samples."""

import pytest
import torch

from withstand.bounds import relax
from withstand.bounds.rule import Elementwise, rules
from withstand.graph.ops import OPS

ATTRS: dict[str, list[dict]] = {
    "leaky_relu": [{"slope": 0.1}],
    "elu": [{"alpha": 0.5}, {"alpha": 2.0}],
    "gelu": [{}, {"approximate": "tanh"}],
    "clip": [{"low": -1.0, "high": 1.0}, {"low": 0.0, "high": 6.0}],
    "pow": [{"exponent": 2.0}, {"exponent": 3.0}, {"exponent": -1.0}],
}
STAIRS = ("sign", "floor", "round")
POSITIVE = ("log", "sqrt", "reciprocal")
CASES = [
    (op, attrs)
    for op, rule in rules().items()
    if isinstance(rule, Elementwise) and op not in STAIRS
    for attrs in ATTRS.get(op, [{}])
]


def setting(op: str, attrs: dict) -> tuple[Elementwise, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rule, the ends of 100 intervals, dense points of each, and the function there."""
    rule, made = rules()[op], torch.Generator().manual_seed(0)
    assert isinstance(rule, Elementwise)
    middle = 2 * torch.randn(100, 1, generator=made, dtype=torch.float64)
    width = 6 * torch.rand(100, 1, generator=made, dtype=torch.float64)
    lo = middle - width / 2
    if op in POSITIVE or attrs.get("exponent", 1.0) < 0:
        lo = lo.abs() + 0.2
    x = lo + width * torch.linspace(0, 1, 1001, dtype=torch.float64)
    return rule, lo, lo + width, x, OPS[op].run(x, **attrs)


def ternary(low: torch.Tensor, high: torch.Tensor, cost) -> torch.Tensor:
    """The least value of a convex function of one number on [low, high]."""
    for _ in range(45):
        first, last = low + (high - low) / 3, high - (high - low) / 3
        left = cost(first) < cost(last)
        low, high = torch.where(left, low, first), torch.where(left, last, high)
    return cost((low + high) / 2)


@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
def test_lines_are_the_nearest_in_the_middle(op, attrs):
    rule, lo, hi, x, fx = setting(op, attrs)
    middle, steps = (lo + hi) / 2, (fx[:, 1:] - fx[:, :-1]) / (x[:, 1:] - x[:, :-1])
    flattest, steepest = steps.amin(1, keepdim=True) - 1, steps.amax(1, keepdim=True) + 1
    line = relax.lines(rule, (lo, hi), attrs)
    below = ternary(flattest, steepest, lambda k: -(fx - k * (x - middle)).amin(1, keepdim=True))
    above = ternary(flattest, steepest, lambda k: (fx - k * (x - middle)).amax(1, keepdim=True))
    room = 1e-3 * (below + above) + 4e-3  # the samples miss kinks by half a step
    assert bool((-(line.lower_slope * middle + line.lower_offset) <= below + room).all())
    assert bool((line.upper_slope * middle + line.upper_offset <= above + room).all())


@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
def test_parallel_lines_are_the_closest(op, attrs):
    rule, lo, hi, x, fx = setting(op, attrs)
    steps = (fx[:, 1:] - fx[:, :-1]) / (x[:, 1:] - x[:, :-1])
    _, low, high = relax.parallel(rule, (lo, hi), attrs)

    def width(slope: torch.Tensor) -> torch.Tensor:
        above = fx - slope * x
        return above.amax(1, keepdim=True) - above.amin(1, keepdim=True)

    best = ternary(steps.amin(1, keepdim=True), steps.amax(1, keepdim=True), width)
    assert bool((high - low <= 1.001 * best + 4e-3).all())
