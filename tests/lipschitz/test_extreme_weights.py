"""Weights so large or small that their squares are no numbers, and matrices at which LAPACK gives up."""

import math

import pytest
import torch
from small import network, random_weights

from withstand.core.spectra import LinAlgError, greatest_eigenvalues, leading_directions
from withstand.lipschitz.certified import Certified
from withstand.lipschitz.constants import constants
from withstand.lipschitz.spectral import spectral

NORMS = ("l2", "linf", "l1")


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-30, 1e30, 1e170, 1e300])
def test_a_norm_is_right_at_any_size(size):
    (matrix,) = random_weights([4, 3], 0)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact * size <= float(spectral(matrix * size)) <= exact * size * (1 + 1e-9)


def test_a_matrix_without_finite_numbers_has_no_norm():
    for odd in (math.inf, math.nan):
        matrices = torch.stack([torch.full((3, 2), odd), torch.ones(3, 2)]).double()
        assert spectral(matrices)[0] == math.inf
        assert float(spectral(matrices)[1]) == pytest.approx(6**0.5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1e-90, 1e-40, 1e30, 1e60, 1e150])
def test_constants_of_huge_and_tiny_weights_are_told(size, norm):
    graph = network([w * size for w in random_weights([3, 5, 4, 2], 1)])
    found = constants(graph, norm)
    assert found.lower.value <= found.upper.value
    assert found.upper.value > 0


def test_a_chain_whose_squares_overflow_is_left_to_autolip():
    whole, huge = (Certified(network([w * s for w in random_weights([3, 4, 2], 2)])) for s in (1.0, 1e80))
    assert set(whole.methods(2)) == {"autolip", "eclipse-fast", "seqlip"}
    assert set(huge.methods(2)) == {"autolip"}
    assert "too large or too small" in str(huge.chain)


def fails(*_, **__):
    raise LinAlgError("the algorithm failed to converge")


def test_bounds_hold_where_the_eigenvalues_do_not_come(monkeypatch):
    gram = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]).double()
    above, below = greatest_eigenvalues(gram), greatest_eigenvalues(gram, below=True)
    assert float(above) == float(below) == pytest.approx(3.0)
    exact = constants(network(random_weights([3, 4, 2], 3)))
    for name in ("eigvalsh", "eigh", "svd"):
        monkeypatch.setattr(torch.linalg, name, fails)
    assert (float(greatest_eigenvalues(gram)), float(greatest_eigenvalues(gram, below=True))) == (4.0, 2.0)
    assert leading_directions(torch.tensor([[[0.0, 1.0], [3.0, 4.0]]])).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)]
    ]
    loose = constants(network(random_weights([3, 4, 2], 3)))
    assert loose.lower.value <= exact.upper.value <= loose.upper.value
    assert {bound.method for bound in loose.bounds} >= {"secants", "autolip"}
