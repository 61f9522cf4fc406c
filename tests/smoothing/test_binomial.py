"""Binomial statistics against scipy's own and against exact enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from withstand.core.smoothing_tally import failures_at_most
from withstand.smoothing.binomial import fair_chance, least_draws, lower_bound


@pytest.mark.parametrize(("draws", "alpha"), [(1, 0.05), (7, 0.5), (40, 0.001), (1000, 0.001), (100_000, 1e-6)])
def test_the_lower_bound_is_that_of_scipy(draws: int, alpha: float) -> None:
    hits = sorted({0, 1, draws // 3, draws // 2, draws - 1, draws})
    ours = lower_bound(torch.tensor(hits), draws, alpha).tolist()
    for k, bound in zip(hits, ours, strict=True):
        theirs = binomtest(k, draws, alternative="greater").proportion_ci(1 - alpha, method="exact").low
        assert bound == pytest.approx(theirs, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("draws", "alpha"), [(10, 0.05), (25, 0.001), (60, 0.01)])
def test_the_lower_bound_covers_exactly(draws: int, alpha: float) -> None:
    hits = torch.arange(draws + 1)
    bounds = lower_bound(hits, draws, alpha).numpy()
    assert (np.diff(bounds) > 0).all()
    for p in np.linspace(0.001, 0.999, 400):
        missed = binom.pmf(hits.numpy(), draws, p)[bounds > p].sum()
        assert missed <= alpha + 1e-12
    for k in range(1, draws + 1):  # and no larger bound would: at the bound, k hits or more have the chance alpha
        assert binom.sf(k - 1, draws, bounds[k]) == pytest.approx(alpha, rel=1e-9)


def test_the_p_value_is_that_of_the_two_sided_test_against_a_fair_coin() -> None:
    pairs = [(a, b) for a, b in itertools.product((0, 1, 2, 5, 19, 50, 400), repeat=2) if a >= b and a > 0]
    first, second = (torch.tensor(part) for part in zip(*pairs, strict=True))
    for (a, b), chance in zip(pairs, fair_chance(first, second).tolist(), strict=True):
        assert chance == pytest.approx(binomtest(a, a + b, 0.5).pvalue, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.4, 0.05, 0.001, 1e-6])
def test_the_least_number_of_draws_certifies_and_one_less_does_not(alpha: float) -> None:
    n = least_draws(alpha)
    assert float(lower_bound(torch.tensor([n]), n, alpha)) > 0.5
    assert n == 1 or float(lower_bound(torch.tensor([n - 1]), n - 1, alpha)) <= 0.5


@pytest.mark.parametrize(("claims", "alpha"), [(1, 0.001), (100, 0.001), (500, 0.001), (10_000, 0.01)])
def test_the_number_of_failures_is_the_smallest_that_is_so_sure(claims: int, alpha: float) -> None:
    def chance_of_more(q: int) -> float:
        return math.fsum(binom.pmf(range(q + 1, claims + 1), claims, alpha)) if q >= 0 else 1.0

    q = failures_at_most(claims, alpha)
    assert chance_of_more(q) <= alpha * (1 + 1e-9) < chance_of_more(q - 1)
