"""PAC-Bayes bounds: the numeric inverse against 60 digits, the constants against sums, bounds against each other."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.generalisation.bound import Bound
from withstand.generalisation.pac_bayes import binary_kl, catoni, gaussian_kl, kl_inverse, maurer, mcallester

RATE = st.floats(0, 1)
SAMPLES = st.integers(8, 10**6)
DELTA = st.floats(1e-6, 0.5)
KL = st.floats(0, 1e5)


def precise_kl(q: float, p: float) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        a, b = Decimal(q), Decimal(p)
        first = a * (a / b).ln() if a else Decimal(0)
        return first + ((1 - a) * ((1 - a) / (1 - b)).ln() if a < 1 else Decimal(0))


@settings(deadline=None)
@given(RATE, st.floats(1e-12, 50))
def test_the_inverse_is_sound_in_sixty_digits(q: float, c: float) -> None:
    p = kl_inverse(q, c)
    assert q <= p <= 1
    assert p == 1 or precise_kl(q, p) >= Decimal(c)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.floats(1e-4, 20))
def test_the_inverse_is_close(q: float, c: float) -> None:
    p = kl_inverse(q, c)
    assert p - q < 1e-7 or precise_kl(q, p - 1e-7 * (1 - p) - 1e-12) < Decimal(c) * (1 + Decimal("1e-6"))


@pytest.mark.parametrize("q", [0.0, 0.03, 0.5, 1.0])
def test_without_divergence_the_inverse_is_the_rate_itself(q: float) -> None:
    assert kl_inverse(q, 0) == q


@settings(deadline=None)
@given(st.floats(1e-6, 30))
def test_the_inverse_at_rate_zero_is_known(c: float) -> None:
    assert kl_inverse(0, c) == pytest.approx(-math.expm1(-c), rel=1e-7)


@pytest.mark.parametrize("n", [8, 9, 20, 100, 1000, 20_000])
def test_maurers_constant_covers_the_moment_it_stands_for(n: int) -> None:
    k = torch.arange(n + 1, dtype=torch.float64)
    log = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log += torch.xlogy(k, k / n) + torch.xlogy(n - k, 1 - k / n)
    assert math.sqrt(n) <= float(log.exp().sum()) <= 2 * math.sqrt(n)


@settings(deadline=None)
@given(RATE, KL, SAMPLES, DELTA)
def test_mcallester_is_never_below_maurer(risk: float, kl: float, n: int, delta: float) -> None:
    assert mcallester(risk, kl, n, delta).value >= maurer(risk, kl, n, delta).value - 1e-7 >= risk - 1e-7


@settings(deadline=None)
@given(RATE, KL, SAMPLES, DELTA)
def test_bounds_fall_with_samples_and_rise_with_kl(risk: float, kl: float, n: int, delta: float) -> None:
    for bound in (mcallester, maurer, catoni):
        value = bound(risk, kl, n, delta).value
        assert bound(risk, kl, 2 * n, delta).value <= value + 1e-9
        assert bound(risk, kl + 1, n, delta).value >= value - 1e-9
        assert value >= risk - 1e-9


@pytest.mark.parametrize("bound", [mcallester, maurer, catoni])
def test_bounds_hold_as_often_as_they_say(bound) -> None:
    """A single classifier (KL 0) of error 0.3, 20,000 samples of size 25, delta 0.5."""
    generator = torch.Generator().manual_seed(1)
    counts = (torch.rand(20_000, 25, generator=generator) < 0.3).sum(1)
    broken = {k: bound(k / 25, 0, 25, 0.5).value < 0.3 for k in range(26)}
    share = sum(broken[int(k)] for k in counts) / len(counts)
    assert share <= 0.5
    assert any(broken.values())


def test_catoni_pays_for_its_rates() -> None:
    alone = catoni(0.1, 50, 1000, rates=(1.0,)).value
    assert alone == pytest.approx((1 - math.exp(-0.1 - (50 + math.log(20)) / 1000)) / (1 - math.exp(-1)), rel=1e-9)
    assert catoni(0.1, 50, 1000, rates=(1.0, 1.0)).value > alone


def test_a_gaussian_divergence_is_that_of_torch() -> None:
    w, w0 = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sigma, prior in ((0.3, 0.3), (0.2, 0.5)):
        theirs = torch.distributions.kl_divergence(
            torch.distributions.Normal(w, sigma), torch.distributions.Normal(w0, prior)
        ).sum()
        assert gaussian_kl(float((w - w0).norm()), 7, sigma, prior) == pytest.approx(float(theirs), rel=1e-12)
    assert gaussian_kl(3, 7, 0.5) == pytest.approx(18)


def test_a_vacuous_bound_says_so() -> None:
    assert "vacuous" in str(maurer(0.2, 1e6, 100))
    assert maurer(0.2, 1e6, 100).vacuous
    assert not maurer(0.2, 1, 100).vacuous
    assert "vacuous" not in str(maurer(0.2, 1, 100))
    assert Bound("any", 1.0, 0.05).to_json()["vacuous"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: maurer(0.1, 1, 7),
        lambda: maurer(1.1, 1, 100),
        lambda: maurer(float("nan"), 1, 100),
        lambda: mcallester(0.1, -1, 100),
        lambda: mcallester(0.1, 1, 100, delta=1),
        lambda: catoni(0.1, float("nan"), 100),
        lambda: catoni(0.1, 1, 100, rates=()),
        lambda: catoni(0.1, 1, 100, rates=(0.0,)),
        lambda: kl_inverse(0.1, -1),
        lambda: gaussian_kl(1, 3, 0),
    ],
)
def test_what_cannot_be_used_is_refused(wrong) -> None:
    with pytest.raises(InputError):
        wrong()


def test_divergence_at_the_edges() -> None:
    assert binary_kl(0, 0) == binary_kl(1, 1) == binary_kl(0.3, 0.3) == 0
    assert binary_kl(0.1, 0) == binary_kl(0.1, 1) == math.inf
    assert kl_inverse(0.4, math.inf) == 1
