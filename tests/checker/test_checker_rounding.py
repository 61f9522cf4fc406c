"""The rounding analysis against exact rational arithmetic, on networks made to cancel."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from checker.nets import File
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.checker.builder import Builder
from withstand.checker.certificate import Rows
from withstand.checker.check import claim_bounds
from withstand.checker.cut import cut
from withstand.checker.network import Affine, Network
from withstand.checker.reading import read_network
from withstand.checker.region import Region
from withstand.checker.rounding import UNIT, gamma, middle, total

LAYERS = [3, 7, 5, 2]


def cancelling(seed: int) -> Network:
    """A ReLU network whose weights differ in size by many orders and come in pairs that nearly cancel."""
    file, last = File((1, LAYERS[0]), seed), "x"
    random = file.random
    for i, (a, b) in enumerate(pairwise(LAYERS)):
        weight = random.normal(size=(b, a)) * 10.0 ** random.uniform(-6, 6, (b, a))
        weight[:, -1] = -weight[:, 0] * (1 + 1e-5 * random.normal(size=b))
        bias = random.normal(size=b) * 10.0 ** random.uniform(-6, 6, b)
        last = file.add("Gemm", last, file.constant(weight), file.constant(bias), transB=1)
        if i < len(LAYERS) - 2:
            last = file.add("Relu", last)
    return read_network(file.bytes(last))


def exactly(network: Network, x: list[Fraction]) -> list[Fraction]:
    """The outputs as rational numbers."""
    for step in network.steps:
        if isinstance(step, Affine):
            assert step.bias is not None
            weight = step.maps[0].weight  # type: ignore[attr-defined]
            x = [
                sum((Fraction(w) * v for w, v in zip(row, x, strict=True)), Fraction(b))
                for row, b in zip(weight.tolist(), step.bias.tolist(), strict=True)
            ]
        else:
            x = [max(v, Fraction(0)) for v in x]
    return x


def bound_of(network: Network, region: Region, weight: np.ndarray, offset: float) -> float:
    """The checker's bound of one row over a region, without splits."""
    builder = Builder(network, region, Rows(weight[None], np.array([offset]), np.zeros(1, np.int32)))
    builder.claim(np.array([builder.root()]), np.array([0]))
    return float(claim_bounds(builder.certificate(), network)[0])


@given(st.integers(0, 10**9), st.floats(-30, 3))
@settings(max_examples=40, deadline=None)
def test_bounds_stay_below_exact_values(seed, exponent):
    """Over a point every neuron is stable, and only the slack keeps the bound below the exact value."""
    network, random = cancelling(seed), np.random.default_rng(seed)
    x, weight, offset = random.normal(size=3), random.normal(size=2), float(random.normal())
    half = 0.0 if exponent < -20 else 10.0**exponent
    region = Region(x - half, x + half)
    bound = bound_of(network, region, weight, offset)
    assert np.isfinite(bound)
    for corner in [*product(*zip(region.low, x, region.high)), region.low + (region.high - region.low) * 0.3]:
        outputs = exactly(network, [Fraction(float(v)) for v in corner])
        value = sum((Fraction(w) * o for w, o in zip(weight.tolist(), outputs)), Fraction(offset))
        assert Fraction(bound) <= value


@given(st.integers(0, 10**9))
@settings(max_examples=20, deadline=None)
def test_slack_is_of_the_order_of_the_terms_that_cancel(seed):
    network, random = cancelling(seed), np.random.default_rng(seed)
    x, weight = random.normal(size=3), random.normal(size=2)
    bound = bound_of(network, Region(x, x), weight, 0.0)
    outputs = exactly(network, [Fraction(float(v)) for v in x])
    value = sum(Fraction(w) * o for w, o in zip(weight.tolist(), outputs))
    size = np.abs(x)
    for step in network.steps:
        if isinstance(step, Affine):
            assert step.bias is not None
            size = step.absolute[0].forward(size[None])[0] + np.abs(step.bias)
    assert float(value - Fraction(bound)) <= 2e-14 * float(np.abs(weight) @ size) + 1e-140


def test_gamma_is_never_too_small():
    for n in (0, 1, 7, 10**4, 10**8):
        exact = Fraction(n, 2**53) / (1 - Fraction(n, 2**53))
        assert Fraction(gamma(n)) >= exact
        assert Fraction(gamma(n)) <= exact * (1 + Fraction(1, 10**5))
    assert UNIT == 2.0**-53


numbers = st.floats(-1e12, 1e12, allow_subnormal=True)


@given(numbers, numbers)
def test_a_middle_and_radius_cover_the_interval(a, b):
    low, high = min(a, b), max(a, b)
    centre, radius = (Fraction(float(v)) for v in middle(np.array(low), np.array(high)))
    assert centre - radius <= Fraction(low)
    assert centre + radius >= Fraction(high)


@given(numbers, numbers, st.floats(0, 1e12))
def test_totals_are_rounded_down(a, b, slack):
    found = float(total(np.array(a), np.array(b), np.array(slack)))
    assert Fraction(found) <= Fraction(a) + Fraction(b) - Fraction(slack)


@pytest.mark.filterwarnings("ignore")
def test_totals_without_a_number_are_no_bound():
    for parts, slack in ((np.nan, 0.0), (np.inf, 0.0), (0.0, np.inf), (-np.inf, 0.0)):
        assert total(np.array(parts), np.array(0.0), np.array(slack)) == -np.inf


@given(st.integers(0, 10**9), st.sampled_from(["box", "l1", "l2"]))
@settings(max_examples=40, deadline=None)
def test_least_values_of_rows_over_regions(seed, norm):
    """Never above the exact value at a point; over boxes, and balls inside them, the least value itself."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(1, 3, 4)) * 10.0 ** random.uniform(-8, 8, (1, 3, 4))
    centre, radius = random.normal(size=4), float(random.uniform(0.1, 2))
    low, high = centre - random.uniform(0, 2, 4), centre + random.uniform(0, 2, 4)
    region = Region(low, high, norm, centre, radius)
    value, slack = region.least(rows, low[None], high[None])
    bound = (value - slack * (1 + 1e-9) - 1e-15 * np.abs(value))[0]
    points = np.concatenate([random.uniform(low, high, (400, 4)), np.array(list(product(*zip(low, high))))])
    if norm != "box":
        step = points - centre
        size = np.abs(step).sum(1) if norm == "l1" else np.sqrt((step**2).sum(1))
        points = centre + step * np.minimum(1, radius / size * (1 - 1e-12))[:, None]
    for point in points[:: 1 if norm == "box" else 5]:
        for row, least in zip(rows[0].tolist(), bound.tolist()):
            exact = sum(Fraction(w) * Fraction(v) for w, v in zip(row, point.tolist()))
            assert Fraction(least) <= exact
    if norm == "box":
        truth = (np.minimum(rows * low, rows * high)).sum(2)[0]
        np.testing.assert_allclose(bound, truth, rtol=1e-9)
    inner = Region(centre - 9, centre + 9, norm, centre, radius)
    if norm != "box":
        dual = np.abs(rows).max(2) if norm == "l1" else np.sqrt((rows**2).sum(2))
        found, errors = inner.least(rows, inner.low[None], inner.high[None])
        np.testing.assert_allclose(found - errors, rows @ centre - radius * dual, rtol=1e-9)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_least_values_over_a_ball_cut_by_a_box_are_nearly_exact(norm):
    """Against a fine projected search for the least point."""
    random = np.random.default_rng(0)
    for _ in range(5):
        row, centre = random.normal(size=(1, 1, 3)), random.uniform(0, 1, 3)
        region = Region(np.zeros(3), np.ones(3), norm, centre, 0.6)
        value, slack = region.least(row, region.low[None], region.high[None])
        grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 61)] * 3), -1).reshape(-1, 3)
        size = np.abs(grid - centre).sum(1) if norm == "l1" else np.sqrt(((grid - centre) ** 2).sum(1))
        best = (grid[size <= 0.6] @ row[0, 0]).min()
        assert best - 0.1 <= value[0, 0] - slack[0, 0] <= best


@given(st.integers(0, 10**9))
@settings(max_examples=80, deadline=None)
def test_cuts_keep_every_point_where_all_lines_are_low(seed):
    random = np.random.default_rng(seed)
    boxes, lines, inputs = 3, 7, 2
    low = random.normal(size=(boxes, inputs))
    high = low + random.uniform(0, 2, (boxes, inputs))
    owner = np.sort(np.concatenate([np.arange(boxes), random.integers(0, boxes, lines - boxes)]))
    slope = random.normal(size=(lines, inputs)) * 10.0 ** random.uniform(-9, 9, (lines, 1))
    slope[random.random(slope.shape) < 0.2] = 0
    middles = (low + high)[owner] / 2
    constant = -(slope * middles).sum(1) + random.normal(size=lines) * np.abs(slope).sum(1) / 2
    below, above = cut(low, high, slope, constant, owner)
    for box in range(boxes):
        x = low[box] + (high - low)[box] * random.random((300, inputs))
        mine = owner == box
        for point in x[(x @ slope[mine].T + constant[mine] <= 1e-9).all(1)]:
            exact = [
                sum((Fraction(s) * Fraction(v) for s, v in zip(line, point.tolist())), Fraction(c))
                for line, c in zip(slope[mine].tolist(), constant[mine].tolist())
            ]
            if max(exact) <= 0:
                assert (below[box] <= point).all()
                assert (point <= above[box]).all()


def test_a_cut_is_where_the_line_says():
    low, high = np.zeros((1, 2)), np.ones((1, 2))
    below, above = cut(low, high, np.array([[1.0, 0.0], [0.0, -2.0]]), np.array([-0.25, 1.0]), np.zeros(2, int))
    np.testing.assert_allclose(below, [[0, 0.5]])
    np.testing.assert_allclose(above, [[0.25, 1]])
    below, above = cut(low, high, np.array([[1.0, 1.0]]), np.array([0.5]), np.zeros(1, int))
    assert (below > above).any()
