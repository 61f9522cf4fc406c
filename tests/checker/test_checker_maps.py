"""Linear maps against their own matrices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.checker.maps import Convolution, Dense, Identity, Scale, Take, Transposed


def matrix(map) -> np.ndarray:
    """[outputs, inputs], by unit vectors."""
    return map.forward(np.eye(map.inputs)).T


def check(map, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    whole = matrix(map)
    assert whole.shape == (map.outputs, map.inputs)
    x, rows = random.normal(size=(3, map.inputs)), random.normal(size=(4, map.outputs))
    np.testing.assert_allclose(map.forward(x), x @ whole.T, atol=1e-12)
    np.testing.assert_allclose(map.backward(rows), rows @ whole, atol=1e-12)
    np.testing.assert_allclose(matrix(map.magnitude()), np.abs(whole), atol=1e-12)
    if not isinstance(map, Scale):
        assert map.roundings_forward >= (whole != 0).sum(1).max() or not map.mixes
        assert map.roundings_backward >= (whole != 0).sum(0).max() or map.roundings_backward == 0
    if not map.mixes:
        assert (whole != 0).sum(1).max() <= 1


def test_simple_maps():
    random = np.random.default_rng(0)
    check(Identity(4))
    check(Scale(random.normal(size=5)))
    check(Dense(random.normal(size=(3, 4))))
    check(Dense(random.normal(size=(3, 4)), blocks=2))
    check(Take(np.array([2, -1, 0]), 4))
    check(Take(np.array([2, 2, 0, 2, -1]), 4))
    assert Take(np.array([2, 2, 0, 2]), 4).roundings_backward == 3
    assert Take(np.array([2, 1]), 4).roundings_backward == 0


@given(
    st.integers(1, 2),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(5, 6), st.integers(5, 7)),
)
@settings(max_examples=40, deadline=None)
def test_convolutions(groups, channels, kernel, stride, pads, dilation, size):
    weight = np.random.default_rng(0).normal(size=(channels[0] * groups, channels[1], *kernel))
    map = Convolution(weight, size, stride, pads, dilation, groups)
    check(map)
    check(Transposed(map))


def test_convolutions_in_pieces(monkeypatch):
    weight = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    map = Convolution(weight, (5, 5), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    rows, x = np.random.default_rng(1).normal(size=(2, 7, 50))
    whole = map.backward(rows), map.forward(x)
    monkeypatch.setattr("withstand.checker.maps.CACHED", 900)
    again = replace(map)
    np.testing.assert_array_equal(again.backward(rows), whole[0])
    np.testing.assert_array_equal(again.forward(x), whole[1])


@pytest.mark.parametrize("count", [0, 1])
def test_no_rows_are_no_trouble(count):
    map = Convolution(np.ones((1, 1, 2, 2)), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1)
    assert map.backward(np.ones((count, 4))).shape == (count, 9)
