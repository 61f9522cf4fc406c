"""Lines of activations hold everywhere, and elementary functions keep to the errors they state."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.checker import smooth
from withstand.checker.functions import ABS, RELU, Clip, Kinked
from withstand.checker.maximum import Maximum
from withstand.checker.smooth import Elu, Sigmoid, Softplus, Tanh

FUNCTIONS = {
    "relu": RELU,
    "abs": ABS,
    "leaky": Kinked(0.1, 1.0),
    "steep left": Kinked(1.5, 0.25),
    "falling": Kinked(-0.5, -2.0),
    "clip": Clip(-0.5, 0.75),
    "floor": Clip(-1.0, np.inf),
    "sigmoid": Sigmoid(),
    "tanh": Tanh(),
    "softplus": Softplus(),
    "elu": Elu(1.0),
    "elu 0.3": Elu(0.3),
}

edges = st.one_of(
    st.floats(-4, 4),
    st.floats(-1e-6, 1e-6),
    st.floats(-200, 200),
    st.sampled_from([0.0, -0.5, 0.75, 1e-300, -1e-300, 1e6, -1e6]),
)


def between(low: float, high: float) -> np.ndarray:
    points = np.concatenate([np.linspace(low, high, 401), low + (high - low) * np.geomspace(1e-12, 1, 60)])
    return np.clip(np.concatenate([points, [low, high, 0.0, -0.5, 0.75]]), low, high)


@pytest.mark.parametrize("name", FUNCTIONS)
@given(edges, edges, st.one_of(st.just(np.nan), st.floats(0, 1), st.floats(-3, 3)))
@settings(max_examples=80, deadline=None)
def test_lines_hold(name, a, b, slope):
    function = FUNCTIONS[name]
    low, high = np.array([[min(a, b)]]), np.array([[max(a, b)]])
    lines = function.lines(low, high, np.array([[slope]]))
    x = between(low[0, 0], high[0, 0])
    value = function.value(x)
    lower = lines.lower_slope * x + (0 if lines.lower_offset is None else lines.lower_offset)
    upper = lines.upper_slope * x + (0 if lines.upper_offset is None else lines.upper_offset)
    room = 4e-15 * (1 + np.abs(x) * (1 + abs(0 if np.isnan(slope) else slope)))
    assert (lower <= value + room).all()
    assert (upper >= value - room).all()
    below, above = function.image(low, high)
    assert (below <= value).all()
    assert (value <= above).all()
    if not function.undecided(low, high).any() and name not in ("sigmoid", "tanh", "softplus", "elu", "elu 0.3"):
        np.testing.assert_allclose(lower[0], value, atol=1e-9 * (1 + np.abs(x).max()))
        np.testing.assert_allclose(upper[0], value, atol=1e-9 * (1 + np.abs(x).max()))


@pytest.mark.parametrize("name", FUNCTIONS)
@given(st.floats(-5, 5), st.floats(0.01, 5))
@settings(max_examples=40, deadline=None)
def test_own_lines_touch_the_function(name, start, width):
    """The gap between function and line closes somewhere (for smooth functions nearly)."""
    function = FUNCTIONS[name]
    low, high = np.array([[start]]), np.array([[start + width]])
    lines = function.lines(low, high, None)
    x = np.linspace(start, start + width, 4001)
    value = function.value(x)
    lower = lines.lower_slope * x + (0 if lines.lower_offset is None else lines.lower_offset)
    upper = lines.upper_slope * x + (0 if lines.upper_offset is None else lines.upper_offset)
    assert (value - lower).min() < 1e-3 * width
    assert (upper - value).min() < 1e-3 * width


def test_smooth_lines_are_as_tight_as_chord_and_tangent():
    """On [-1, 1] the best upper line of sigmoid through the lower end touches; both gaps stay below a known 0.04."""
    for function in (Sigmoid(), Tanh()):
        low, high = np.array([[-1.0]]), np.array([[1.0]])
        lines = function.lines(low, high, None)
        x = np.linspace(-1, 1, 1001)
        assert lines.lower_offset is not None
        assert (function.value(x) - lines.lower_slope * x - lines.lower_offset).max() < 0.21


def exactly(operation, x: float) -> Decimal:
    with localcontext(prec=60):
        return operation(Decimal(x))


def test_exponential_and_logarithm_keep_to_their_errors():
    random = np.random.default_rng(0)
    x = -np.concatenate([random.uniform(0, 700, 300), random.uniform(0, 2, 300), np.geomspace(1e-300, 700, 100), [0]])
    for value, found in zip(x, smooth.exp(x)):
        true = exactly(Decimal.exp, value)
        assert abs(Decimal(float(found)) - true) <= true * Decimal(2) ** -50
    assert smooth.exp(np.array([-1e9]))[0] < 2.0**-1000
    t = np.concatenate([random.uniform(0, 1, 300), np.geomspace(1e-300, 1, 100), [0.0]])
    for value, found in zip(t, smooth.log1p(t)):
        true = exactly(lambda d: (1 + d).ln() if d > Decimal("1e-30") else d, value)
        assert abs(Decimal(float(found)) - true) <= Decimal(2) ** -50


def test_values_and_derivatives_keep_to_their_errors():
    x = np.concatenate([np.random.default_rng(1).uniform(-30, 30, 200), [0.0, 1e-9, -1e-9, 700, -700]])

    def sigmoid(d: Decimal) -> Decimal:
        return 1 / (1 + (-d).exp())

    def tanh(d: Decimal) -> Decimal:
        return 2 * sigmoid(2 * d) - 1

    truths = {
        Sigmoid(): (sigmoid, lambda d: sigmoid(d) * (1 - sigmoid(d))),
        Tanh(): (tanh, lambda d: 1 - tanh(d) ** 2),
        Softplus(): (lambda d: (1 + d.exp()).ln(), sigmoid),
        Elu(0.5): (lambda d: d if d > 0 else (d.exp() - 1) / 2, lambda d: d.exp() / 2 if d <= 0 else Decimal(1)),
    }
    for function, truth in truths.items():
        for operation, found in zip(truth, (function.value(x), function.derivative(x))):
            for point, value in zip(x, found):
                error = abs(Decimal(float(value)) - exactly(operation, point))
                assert error <= Decimal(smooth.ERROR) / 4 * (1 + abs(Decimal(point)))


@given(st.integers(0, 10**9))
@settings(max_examples=80, deadline=None)
def test_planes_of_maxima_hold(seed):
    """Rows carried back through a maximum stay below what they bound, at random points and in corners of the box."""
    random = np.random.default_rng(seed)
    size, count, taps = 6, 4, int(random.integers(1, 5))
    index = random.integers(-1, size, (count, taps))
    index[:, 0] = random.integers(0, size, count)
    function = Maximum(index, size)
    low = random.normal(size=(1, size)) * 10.0 ** random.uniform(-3, 3)
    high = low + np.where(
        random.random((1, size)) < 0.2, 0.0, random.exponential(10.0 ** random.uniform(-4, 2), (1, size))
    )
    planes = function.lines(low, high, None)
    rows = random.normal(size=(1, 3, count))
    magnitude = np.maximum(np.abs(low), np.abs(high))[0]
    found, constant, slack = planes.back(rows, magnitude)
    share = random.random((300, size))
    x = low + (high - low) * np.where(random.random((300, 1)) < 0.5, share, np.rint(share))
    value = function.value(x)
    below, above = function.image(low, high)
    assert ((below <= value) & (value <= above)).all()
    errors = slack + 1e-13 * (np.abs(rows).sum(2) * magnitude.max() * taps)
    assert (rows[0] @ value.T >= found[0] @ x.T + (constant - errors)[0][:, None]).all()
    if not function.undecided(low, high).any():
        np.testing.assert_allclose(
            found[0] @ x.T + constant[0][:, None], rows[0] @ value.T, atol=1e-9 * magnitude.max()
        )
