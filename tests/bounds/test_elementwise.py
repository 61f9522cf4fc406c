"""Every element-wise rule, by sampling random intervals: degenerate, tiny, huge, in both float types."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from withstand.bounds import relax
from withstand.bounds.rule import Elementwise, rules
from withstand.graph.ops import OPS

ATTRS = {
    "leaky_relu": [{"slope": 0.1}, {"slope": 0.0}, {"slope": 1.0}],
    "elu": [{"alpha": 1.0}, {"alpha": 0.5}, {"alpha": 2.0}],
    "gelu": [{}, {"approximate": "tanh"}],
    "clip": [{"low": 0.0, "high": 6.0}, {"low": -1.0}, {"high": 2.0}, {"low": -1.0, "high": 1.0}],
    "pow": [{"exponent": e} for e in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, -1.0, -2.0, -0.5)],
}
CASES = [(op, attrs) for op, rule in rules().items() if isinstance(rule, Elementwise) for attrs in ATTRS.get(op, [{}])]
DTYPES = (torch.float32, torch.float64)

middles = st.one_of(st.floats(-5, 5), st.floats(-1e4, 1e4), st.sampled_from([0.0, -0.5, 0.5, 1.0, 2.0, -2.0]))
widths = st.one_of(st.just(0.0), st.floats(0, 1e-6), st.floats(0, 10), st.floats(0, 1e4))
slopes = st.one_of(st.floats(-2, 2), st.sampled_from([0.0, 1.0, -1.0, 0.25, 1e-8, 100.0]))
intervals = st.lists(st.tuples(middles, widths, slopes), min_size=30, max_size=30)
KNOWN = [(0.25, 1.5, 0.0), (0.0, 1e30, 0.5), (0.0, 0.0, 1.0), (30.0, 20.0, 0.0), (0.0, 1e-30, 0.0), (1e30, 1.0, 0.0)]


def grid(lo: torch.Tensor, hi: torch.Tensor) -> torch.Tensor:
    """Points [B, P] of the intervals [B, 1]: dense everywhere and denser at zero, kinks and both ends."""
    even = lo + (hi - lo) * torch.linspace(0, 1, 401, dtype=lo.dtype)
    near = torch.linspace(-8, 8, 321, dtype=lo.dtype).expand(len(lo), -1)
    steps = (hi - lo) * (10.0 ** -torch.arange(1, 7)).to(lo.dtype)
    points = torch.cat([even, near, lo + steps, hi - steps, lo, hi], 1)
    return torch.minimum(torch.maximum(points, lo), hi)


def boxes(
    drawn: list[tuple[float, float, float]], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lower ends, upper ends and slopes, all [B, 1]."""
    middle, width, slope = torch.tensor(drawn, dtype=torch.float64).T[:, :, None]
    lo, hi = (middle - width / 2).to(dtype), (middle + width / 2).to(dtype)
    return lo, torch.maximum(lo, hi), slope.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
@given(drawn=intervals)
@example(drawn=KNOWN)
@settings(max_examples=2, deadline=None, derandomize=True)
def test_offsets_hold_all_values(op, attrs, dtype, drawn):
    rule = rules()[op]
    assert isinstance(rule, Elementwise)
    lo, hi, slope = boxes(drawn, dtype)
    low, high = relax.offsets(rule, lo, hi, slope, attrs)
    assert not bool((low.isnan() | high.isnan()).any())
    x = grid(lo, hi)
    fx, rise = OPS[op].run(x, **attrs), slope * x
    value = fx - rise
    room = 32 * torch.finfo(dtype).eps * (1 + fx.abs() + rise.abs())
    undefined = value.isnan()
    assert bool((undefined | (value >= low - room) | (value == math.inf)).all())
    assert bool((undefined | (value <= high + room) | (value == -math.inf)).all())
    assert bool((low == -math.inf)[undefined.any(1)].all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
@given(drawn=intervals)
@example(drawn=KNOWN)
@settings(max_examples=2, deadline=None, derandomize=True)
def test_lines_hold_all_values(op, attrs, dtype, drawn):
    rule = rules()[op]
    assert isinstance(rule, Elementwise)
    lo, hi, _ = boxes(drawn, dtype)
    line = relax.lines(rule, (lo, hi), attrs)
    slope, low, high = relax.parallel(rule, (lo, hi), attrs)
    x = grid(lo, hi)
    fx = OPS[op].run(x, **attrs)
    for tilt, offset, side in (
        (line.lower_slope, line.lower_offset, 1),
        (line.upper_slope, line.upper_offset, -1),
        (slope, low, 1),
        (slope, high, -1),
    ):
        assert bool(tilt.isfinite().all())
        room = 64 * torch.finfo(dtype).eps * (1 + fx.abs() + (tilt * x).abs()).nan_to_num(0.0, 0.0)
        line_at = tilt * x + offset
        apart = line_at <= fx + room if side > 0 else line_at >= fx - room
        assert bool((fx.isnan() | apart).all())


@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
def test_the_image_is_tight(op, attrs):
    """On ordinary intervals the image is no wider than what dense sampling finds."""
    rule = rules()[op]
    assert isinstance(rule, Elementwise)
    for ends in ((-2.0, -0.5), (-1.0, 3.0), (0.5, 2.0)):
        lo, hi = (torch.tensor([[end]], dtype=torch.float64) for end in ends)
        low, high = relax.image(rule, lo, hi, attrs)
        if not bool(low.isfinite() & high.isfinite()):
            continue
        x = torch.linspace(*ends, 20001, dtype=torch.float64)
        fx = OPS[op].run(x, **attrs)
        assert float(low) >= float(fx.min()) - 1e-3
        assert float(high) <= float(fx.max()) + 1e-3


def test_infinite_intervals_are_bounded_where_the_function_is():
    whole = (torch.tensor([[-math.inf]]), torch.tensor([[math.inf]]))
    for op, least, most in (("sigmoid", 0.0, 1.0), ("tanh", -1.0, 1.0), ("relu", 0.0, math.inf)):
        rule = rules()[op]
        assert isinstance(rule, Elementwise)
        line = relax.lines(rule, whole, {})
        assert [float(t) for t in line] == [0.0, least, 0.0, most]


def test_softplus_has_no_jump():
    """Bounds hold log(1 + exp(x)), as onnxruntime computes it, and not torch's x from 20 on, to the last digits."""
    rule = rules()["softplus"]
    assert isinstance(rule, Elementwise)
    x = 20 + torch.linspace(-1e-9, 1e-9, 201, dtype=torch.float64)
    exact = x + torch.log1p(torch.exp(-x))
    low, high = relax.image(rule, x[:1], x[-1:], {})
    assert float(low) == pytest.approx(float(exact.min()), abs=1e-14)
    assert float(high) == pytest.approx(float(exact.max()), abs=1e-14)


def test_poles_and_missing_values_give_no_bound():
    across = (torch.tensor([[-1.0]]), torch.tensor([[2.0]]))
    for op in ("reciprocal", "log", "sqrt"):
        rule = rules()[op]
        assert isinstance(rule, Elementwise)
        low, _ = relax.image(rule, *across, {})
        assert float(low) == -math.inf


def test_the_known_zonotope_of_a_relu():
    """x in [-1, 1] gives centre .25 and generators (.5, .25) (Singh et al. 2018)."""
    relu = rules()["relu"]
    assert isinstance(relu, Elementwise)
    slope, low, high = relax.parallel(relu, (torch.tensor([[-1.0]]), torch.tensor([[1.0]])), {})
    assert [float(slope), float(low + high) / 2, float(high - low) / 2] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(("lower", "expected"), [("adaptive", 1.0), ("zero", 0.0), ("one", 1.0), ("parallel", 0.75)])
def test_named_slopes_of_an_unstable_relu(lower, expected):
    relu = rules()["relu"]
    assert isinstance(relu, Elementwise)
    line = relax.lines(relu, (torch.tensor([[-1.0]]), torch.tensor([[3.0]])), {}, lower)
    assert float(line.lower_slope) == expected
    assert [float(t) for t in (line.upper_slope, line.upper_offset)] == [0.75, 0.75]
    assert float(line.lower_offset) == 0.0


@pytest.mark.parametrize(
    ("op", "low", "high", "bent"),
    [("reciprocal", 0.2, 2.5e6, True), ("sigmoid", -1e6, 1e6, True), ("softplus", 40.0, 50.0, False)],
)
def test_a_function_is_no_line_because_its_argument_is_large(op, low, high, bent):
    """1 / x over [0.2, 2.5e6] falls from 5 to almost 0: far from its chord, however little beside x."""
    rule = rules()[op]
    assert isinstance(rule, Elementwise)
    assert bool(relax.gap(rule, (torch.tensor([low]), torch.tensor([high])), {})) == bent
