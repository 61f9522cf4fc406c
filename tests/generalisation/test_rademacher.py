"""Adversarial Rademacher complexity: the supremum against optimisation, the inequalities on all signs."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from withstand.core.errors import InputError
from withstand.generalisation.one_hidden_layer import complexity_bound, neuronwise_margin, robust_margin_bound
from withstand.generalisation.rademacher import (
    adversarial_supremum,
    dual,
    linear_rademacher,
    mean_absolute_sign,
    natural_bound,
    norm_ratio,
)


def sample(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, 2.0 * torch.randint(2, (n,), generator=generator).double() - 1


def all_signs(n: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=n)), dtype=torch.float64)


def mean_margin(w, x, y, signs, eps: float, r: float) -> torch.Tensor:
    """The mean of signed worst margins of classifiers w [K, d] for signs [S, n]: [S, K]."""
    margins = y[:, None] * (x @ w.T) - eps * torch.linalg.vector_norm(w, dual(r), dim=1)
    return signs @ margins / len(x)


@pytest.mark.parametrize(
    ("p", "r"), [(1, math.inf), (2, math.inf), (3, math.inf), (math.inf, math.inf), (2, 2), (4, 4 / 3)]
)
@pytest.mark.parametrize("eps", [0.0, 0.1, 2.0])
def test_the_supremum_is_above_every_classifier_and_reached(p: float, r: float, eps: float) -> None:
    x, y = sample(5, 3)
    signs = all_signs(5)
    w = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w[:25_000] *= torch.eye(3, dtype=torch.float64).repeat(25_000, 1)[:25_000]
    w = torch.cat([1.5 * w / torch.linalg.vector_norm(w, p, dim=1, keepdim=True).clamp(min=1e-9), torch.zeros(1, 3)])
    if math.isinf(p):
        corners = torch.tensor(list(itertools.product([-1.5, 0.0, 1.5], repeat=3)), dtype=torch.float64)
        w = torch.cat([w, corners])
    ours = adversarial_supremum(x, y, signs, eps=eps, p=p, radius=1.5, r=r)
    found = mean_margin(w, x, y, signs, eps, r).max(1).values
    assert bool((found <= ours + 1e-12).all())
    assert torch.allclose(found, ours, atol=3e-2 * float(ours.max()))


@pytest.mark.parametrize("seed", range(3))
def test_the_supremum_over_the_cube_is_that_of_a_linear_program(seed: int) -> None:
    x, y = sample(6, 4, seed)
    signs = all_signs(6)[32:]
    ours = adversarial_supremum(x, y, signs, eps=0.2, p=math.inf)
    for row, value in zip(signs, ours):
        u, v = (row[:, None] * y[:, None] * x).mean(0).numpy(), float(row.mean())
        if v < 0:
            continue
        done = linprog(np.concatenate([-u, 0.2 * v * np.ones(4)]), *split(4), bounds=[(-1, 1)] * 4 + [(0, 1)] * 4)
        assert -done.fun == pytest.approx(float(value), abs=1e-9)


def split(d: int) -> tuple[np.ndarray, np.ndarray]:
    """|w_j| <= t_j as rows over (w, t)."""
    eye = np.eye(d)
    return np.block([[eye, -eye], [-eye, -eye]]), np.zeros(2 * d)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from([1.0, 1.2, 1.5, 2.0, 3.0, math.inf]),
    st.floats(0, 3),
    st.integers(0, 99),
)
def test_the_inequalities_hold_on_all_signs(n: int, d: int, p: float, eps: float, seed: int) -> None:
    x, y = sample(n, d, seed)
    found = linear_rademacher(x, y, eps=eps, p=p)
    assert found.exact
    assert found.adversarial_error == 0
    assert found.lower <= found.adversarial + 1e-12
    assert found.adversarial <= found.upper + 1e-12
    assert found.natural <= found.natural_bound + 1e-12
    assert found.adversarial <= found.bound + 1e-12


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_drawn_signs_agree_with_all_signs(p: float) -> None:
    x, y = sample(14, 5)
    exact = linear_rademacher(x, y, eps=0.3, p=p)
    signs = 2.0 * torch.randint(2, (40_000, 14), generator=torch.Generator().manual_seed(3)).double() - 1
    drawn = adversarial_supremum(x, y, signs, eps=0.3, p=p)
    assert abs(float(drawn.mean()) - exact.adversarial) < 4 * float(drawn.std()) / 200


def test_many_samples_are_estimated_with_an_error() -> None:
    x, y = sample(50, 30)
    found = {p: linear_rademacher(x, y, eps=0.1, p=p, draws=20_000) for p in (1.0, 2.0, math.inf)}
    for entry in found.values():
        assert not entry.exact
        assert 0 < entry.adversarial_error < 0.01 * entry.adversarial
        assert entry.natural - 5 * entry.natural_error < entry.adversarial < entry.upper + 5 * entry.adversarial_error
    assert found[2.0].slack / found[1.0].slack == pytest.approx(math.sqrt(30))
    assert found[math.inf].slack / found[1.0].slack == pytest.approx(30)
    assert found[1.0].adversarial == pytest.approx(found[1.0].natural, abs=3 * found[1.0].natural_error)
    again = linear_rademacher(x, y, eps=0.1, p=2.0, draws=20_000)
    assert again == found[2.0]


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13])
def test_the_mean_of_absolute_sums_of_signs(n: int) -> None:
    assert mean_absolute_sign(n) == pytest.approx(float(all_signs(n).mean(1).abs().mean()), rel=1e-12)


def test_the_mean_of_absolute_sums_for_many_samples() -> None:
    assert mean_absolute_sign(999) == pytest.approx(mean_absolute_sign(1000) * 1000 / 999, rel=1e-10)
    assert mean_absolute_sign(10**6) == pytest.approx(math.sqrt(2 / math.pi) / 1000, rel=1e-5)


@settings(deadline=None)
@given(st.integers(1, 5), st.floats(1, 8), st.floats(1, 8), st.integers(0, 99))
def test_no_vector_has_a_larger_ratio_of_norms(d: int, p: float, s: float, seed: int) -> None:
    w = torch.randn(50, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w = torch.cat([w, torch.ones(1, d), torch.eye(d)])
    ratios = torch.linalg.vector_norm(w, s, dim=1) / torch.linalg.vector_norm(w, p, dim=1)
    assert float(ratios.max()) == pytest.approx(norm_ratio(d, p, s), rel=1e-9)


def test_the_natural_bound_is_tight_for_equal_columns_in_two_norms() -> None:
    x = torch.eye(6, dtype=torch.float64)
    y = torch.ones(6, dtype=torch.float64)
    assert linear_rademacher(x, y, eps=0.0, p=2).natural == pytest.approx(natural_bound(x, p=2))


@pytest.mark.parametrize(
    "change",
    [
        {"p": 3.0, "r": 2.0},
        {"p": 0.5},
        {"eps": -1.0},
        {"radius": 0.0},
        {"y": torch.zeros(20)},
        {"y": torch.ones(19)},
        {"draws": 1},
    ],
)
def test_what_cannot_be_used_is_refused(change: dict) -> None:
    x, y = sample(20, 3)
    with pytest.raises(InputError):
        linear_rademacher(x, **{"y": y, "eps": 0.1, **change})


def network(d: int, m: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(m, d, generator=generator, dtype=torch.float64)
    return first, torch.randn(m, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("r", [2.0, math.inf])
def test_the_neuronwise_margin_is_below_every_attacked_one(r: float) -> None:
    x, y = sample(20, 3)
    first, second = network(3, 6, 1)
    low = neuronwise_margin(x, y, first, second, eps=0.3, r=r)
    moves = torch.randn(2000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moves *= 0.3 / torch.linalg.vector_norm(moves, r, dim=1, keepdim=True)
    attacked = y[:, None] * (((x[:, None] + moves) @ first.T).relu() @ second)
    assert bool((low[:, None] <= attacked + 1e-12).all())
    plain = y * ((x @ first.T).relu() @ second)
    assert torch.allclose(neuronwise_margin(x, y, first, second, eps=0.0, r=r), plain)


def test_one_neurons_margin_is_exact() -> None:
    x, y = sample(20, 3)
    first, second = network(3, 1, 1)
    low = neuronwise_margin(x, y, first, second, eps=0.3)
    corners = 0.3 * all_signs(3)
    attacked = y[:, None] * (((x[:, None] + corners) @ first.T).relu() @ second)
    assert torch.allclose(low, attacked.min(1).values)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_the_complexity_bound_covers_networks_fitted_to_signs(p: float, eps: float) -> None:
    """For all signs of 8 samples, the best of many networks of one neuron, which are the corners of the class."""
    x, y = sample(8, 2)
    signs = all_signs(8)
    turn = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    w = torch.stack([turn.cos(), turn.sin()], 1)
    w = w / torch.linalg.vector_norm(w, p, dim=1, keepdim=True)
    margins = [
        torch.stack([neuronwise_margin(x, y, row[None], torch.tensor([side]).double(), eps=eps) for row in w])
        for side in (1.0, -1.0)
    ]
    best = (signs @ torch.cat(margins).T / 8).max(1).values.clamp(min=0)
    assert float(best.mean()) <= complexity_bound(x, outer=1, inner=1, eps=eps, p=p)


def test_the_robust_margin_bound_says_when_it_is_vacuous_and_when_not() -> None:
    generator = torch.Generator().manual_seed(0)
    y = 2.0 * torch.randint(2, (40_000,), generator=generator).double() - 1
    x = y[:, None] * torch.ones(1, 2, dtype=torch.float64)
    first, second = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double(), torch.tensor([1.0, -1.0]).double()
    given = {"outer": 2, "inner": 1, "eps": 0.1, "p": 1, "margin": 0.5}
    bound = robust_margin_bound(x, y, first, second, **given)
    assert 0 < bound.value < 0.2
    assert not bound.vacuous
    assert robust_margin_bound(x[:20], y[:20], first, second, **given).vacuous
    with pytest.raises(InputError, match="outside the class"):
        robust_margin_bound(x, y, first, second, **{**given, "outer": 1.5})
