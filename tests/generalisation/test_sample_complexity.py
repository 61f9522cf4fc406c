"""Schmidt et al.'s models: error rates against simulation and enumeration, and the samples they need."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.generalisation.bernoulli_model import bernoulli_error, bernoulli_table, thresholded_error
from withstand.generalisation.experiments import EXPERIMENTS, experiment
from withstand.generalisation.gaussian_model import gaussian_errors, gaussian_table, mean_errors
from withstand.generalisation.search import least_samples


def test_gaussian_errors_are_those_of_drawn_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    theta = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    w = torch.tensor([[0.9, -1.2, 0.3, 2.0], [1.0, 1.0, 0.1, 0.2]], dtype=torch.float64)
    x = theta + 1.5 * torch.randn(400_000, 4, generator=generator, dtype=torch.float64)
    natural, robust = gaussian_errors(w, theta, sigma=1.5, eps=0.4)
    corners = 0.4 * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)), dtype=torch.float64)
    for row, plain, attacked in zip(w, natural, robust):
        assert float(((x @ row) < 0).double().mean()) == pytest.approx(float(plain), abs=4e-3)
        worst = (x @ row) + float((corners @ row).min())
        assert float((worst < 0).double().mean()) == pytest.approx(float(attacked), abs=4e-3)


def test_a_perfect_gaussian_classifier_has_the_known_error() -> None:
    theta = torch.ones(25)
    natural, robust = gaussian_errors(theta[None], theta, sigma=5.0, eps=0.5)
    assert float(natural) == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), rel=1e-9)
    assert float(robust) == pytest.approx(0.5 * math.erfc(0.5 / math.sqrt(2)), rel=1e-9)


def test_gaussian_errors_fall_with_samples_and_grow_with_eps() -> None:
    few, many = (mean_errors(200, n, sigma=2.0, eps=0.5) for n in (2, 20))
    assert bool((many[1] < few[1]).all())
    assert bool((few[0] < few[1]).all())
    same = mean_errors(200, 2, sigma=2.0, eps=0.0)
    assert torch.equal(same[0], same[1])


def test_robust_learning_needs_more_samples_in_higher_dimensions() -> None:
    found = gaussian_table((100, 1000, 10_000))
    assert found.column("n natural") == [1, 1, 1]
    robust = found.column("n robust")
    assert 2 <= robust[0] <= robust[1] < robust[2] <= 12
    assert found.column("robust at n=1") == sorted(found.column("robust at n=1"))
    assert max(found.column("natural at n=1")) < 0.001


def bernoulli_by_enumeration(d: int, n: int, tau: float, eps: Fraction) -> float:
    """Over all training sets' sums and all test samples."""
    right = 0.5 + tau
    sums = [2 * k - n for k in range(n + 1)]
    chance = [math.comb(n, k) * right**k * (1 - right) ** (n - k) for k in range(n + 1)]
    wrong = 0.0
    for held in itertools.product(range(n + 1), repeat=d):
        for signs in itertools.product([1, -1], repeat=d):
            margin = sum(sums[k] * b - eps * abs(sums[k]) for k, b in zip(held, signs))
            if margin <= 0:
                wrong += math.prod(chance[k] for k in held) * math.prod(right if b > 0 else 1 - right for b in signs)
    return wrong


@pytest.mark.parametrize(("d", "n"), [(1, 1), (1, 3), (3, 1), (3, 2), (2, 4)])
@pytest.mark.parametrize("eps", [Fraction(0), Fraction(1, 4), Fraction(2, 3)])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_bernoulli_errors_are_those_of_enumeration(d: int, n: int, eps: Fraction, tau: float) -> None:
    found = bernoulli_error(d, n, tau=tau, eps=eps)
    assert found == pytest.approx(bernoulli_by_enumeration(d, n, tau, eps), abs=1e-12)


def test_bernoulli_errors_in_many_dimensions_are_those_of_drawn_samples() -> None:
    rng = np.random.default_rng(0)
    d, n, tau, eps, draws = 400, 5, 0.2, 0.25, 5000
    sums = 2 * rng.binomial(n, 0.5 + tau, (draws, d)) - n
    signs = np.where(rng.random((draws, d)) < 0.5 + tau, 1, -1)
    margin = (sums * signs).sum(1) - eps * abs(sums).sum(1)
    share = float((margin <= 0).mean())
    assert bernoulli_error(d, n, tau=tau, eps=eps) == pytest.approx(share, abs=4 * math.sqrt(0.25 / draws))
    assert 0.001 < share < 0.999


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.floats(0.01, 0.5), st.integers(0, 15))
def test_bernoulli_errors_are_shares_and_grow_with_eps(d: int, n: int, tau: float, eps: int) -> None:
    low, high = (bernoulli_error(d, n, tau=tau, eps=Fraction(e, 16)) for e in (eps // 2, eps))
    assert 0 <= low <= high + 1e-9 <= 1 + 1e-9


def test_the_tail_that_is_left_out_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    short = bernoulli_error(300, 4, tau=0.1, eps=Fraction(1, 4))
    monkeypatch.setattr("withstand.generalisation.bernoulli_model.TAIL", 500)
    assert bernoulli_error(300, 4, tau=0.1, eps=Fraction(1, 4)) == pytest.approx(short, abs=1e-12)


def test_a_threshold_restores_one_sample() -> None:
    found = bernoulli_table((100, 400, 1600))
    assert found.column("n thresholded") == [1, 1, 1]
    linear = found.column("n linear")
    assert 3 <= linear[0] <= linear[1] <= linear[2]
    assert thresholded_error(100, 1, tau=0.3, eps=0.9) == bernoulli_error(100, 1, tau=0.3)


def test_the_least_samples_are_found_or_none() -> None:
    for least in range(1, 40):
        assert least_samples(lambda n, least=least: float(n < least), 0.5, 39) == least
    assert least_samples(lambda n: 1.0, 0.5, 39) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bernoulli_error(10, 1, tau=0.0),
        lambda: bernoulli_error(10, 1, tau=0.6),
        lambda: bernoulli_error(0, 1, tau=0.1),
        lambda: bernoulli_error(10, 1, tau=0.1, eps=1.0),
        lambda: bernoulli_error(10, 1, tau=0.1, eps=0.123456),
        lambda: bernoulli_error(10**6, 10**4, tau=1e-4, eps=Fraction(1, 31)),
        lambda: thresholded_error(10, 1, tau=0.1, eps=1.0),
        lambda: bernoulli_table((100,), strength=2.0),
        lambda: gaussian_table((100,), eps=1.0),
        lambda: gaussian_table((0,)),
        lambda: gaussian_errors(torch.zeros(1, 3), torch.ones(3), sigma=1.0, eps=0.1),
        lambda: mean_errors(3, 1, sigma=0.0, eps=0.1),
        lambda: experiment("schmidt-gausian"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong) -> None:
    with pytest.raises(InputError):
        wrong()


def test_experiments_run_by_name() -> None:
    assert set(EXPERIMENTS) == {"rademacher-linear", "schmidt-bernoulli", "schmidt-gaussian"}
    told = experiment("rademacher-linear").to_json()
    by_norm = {p: [row["slack"] for row in told["rows"] if row["p"] == p] for p in (1.0, 2.0, math.inf)}
    assert len(set(by_norm[1.0])) == 1
    assert by_norm[2.0][2] / by_norm[2.0][0] == pytest.approx(10)
    assert all(row["adversarial"] <= row["bound"] for row in told["rows"])
