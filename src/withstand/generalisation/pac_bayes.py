"""PAC-Bayes bounds: the error of a classifier drawn at random from a posterior over weights.

With probability at least 1 - delta over n independent training samples, each bound holds for every posterior Q at once,
against a prior P that does not depend on these samples. `risk` is the posterior's mean error on the sample (the Gibbs
risk), `kl` = KL(Q || P) in nats. The loss may be any loss in [0, 1]: for one that counts inputs not certified at a
radius, the bound is one on the robust error.

References: McAllester 1999 (COLT), Maurer 2004 (arXiv:cs/0411099), Catoni 2007 (arXiv:0712.0248).
"""

import math
from collections.abc import Sequence

from withstand.core.errors import InputError
from withstand.generalisation.bound import Bound
from withstand.generalisation.checks import check_count, check_positive, check_share

ULP = 2.0**-52
"""The relative step of a float64."""

RATES = tuple(2.0**k for k in range(-6, 5))
"""Catoni's rates that are tried: each pays its share of delta. Ours: powers of two around the usual choices."""

OUTWARD = 1e-12
"""Relative slack on the bounds in closed form, far above the rounding error of their few operations."""


def binary_kl(q: float, p: float) -> float:
    """kl(q || p) = q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)) in nats, for error rates q and p in [0, 1]."""
    first, second = _terms(q, p)
    return max(0.0, first + second)


def _terms(q: float, p: float) -> tuple[float, float]:
    if (p == 0 and q > 0) or (p == 1 and q < 1):
        return math.inf, 0.0
    first = q * math.log(q / p) if q > 0 else 0.0
    second = (1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0
    return first, second


def kl_inverse(q: float, c: float) -> float:
    """At least the largest p with kl(q || p) <= c, and no more than 1: a sound numeric inverse.

    Bisection down to neighbouring floats, in which a point counts as beyond the root only where kl exceeds c by more
    than its own rounding error; so the answer lies above the root, by less than 1e-7 and usually by a few units of the
    last place. For c = 0 it is q itself. Raises InputError unless q lies in [0, 1] and c is at least 0.
    """
    check_share("The error rate", q, closed=True)
    if not c >= 0:
        raise InputError(f"The divergence is {c:g}; give a number of at least 0.")
    if c == 0 or q == 1:
        return q
    low, high = q, 1.0
    while (middle := low + (high - low) / 2) not in (low, high):
        first, second = _terms(q, middle)
        slack = 16 * ULP * (1 + abs(first) + abs(second))
        if first + second - slack > c:
            high = middle
        else:
            low = middle
    return high


def maurer(risk: float, kl: float, n: int, delta: float = 0.05) -> Bound:
    """Maurer's bound: kl(risk || R) <= (KL + ln(2 sqrt(n) / delta)) / n, inverted for R.

    Raises InputError for fewer than 8 samples, where the constant 2 sqrt(n) is not proved.
    """
    return Bound("Maurer", kl_inverse(risk, _rate(risk, kl, n, delta)), delta)


def mcallester(risk: float, kl: float, n: int, delta: float = 0.05) -> Bound:
    """McAllester's bound with Maurer's constant: R <= risk + sqrt((KL + ln(2 sqrt(n) / delta)) / (2 n)).

    By Pinsker's inequality it is never below `maurer`. Raises InputError for fewer than 8 samples.
    """
    return Bound("McAllester", _outward(risk + math.sqrt(_rate(risk, kl, n, delta) / 2)), delta)


def catoni(risk: float, kl: float, n: int, delta: float = 0.05, rates: Sequence[float] = RATES) -> Bound:
    """Catoni's bound: R <= (1 - exp(-a risk - (KL + ln(k / delta)) / n)) / (1 - exp(-a)), least over the k `rates` a.

    The rates are fixed before the data are seen; each pays delta / k, so that the best one may be chosen afterwards.
    """
    _check(risk, kl, n, delta)
    if not rates:
        raise InputError("Catoni's bound needs at least one rate above 0.")
    for rate in rates:
        check_positive("Catoni's rate", rate)
    paid = (kl + math.log(len(rates) / delta)) / n
    return Bound("Catoni", min(_outward(math.expm1(-a * risk - paid) / math.expm1(-a)) for a in rates), delta)


def all_bounds(risk: float, kl: float, n: int, delta: float = 0.05) -> tuple[Bound, ...]:
    """The three bounds of this module, each with probability 1 - delta on its own."""
    return tuple(bound(risk, kl, n, delta) for bound in (mcallester, maurer, catoni))


def gaussian_kl(distance: float, dimension: int, sigma: float, prior_sigma: float | None = None) -> float:
    """KL(N(w, sigma^2 I) || N(w0, prior_sigma^2 I)) in nats, in `dimension` dimensions.

    distance: the Euclidean norm of w - w0. prior_sigma: sigma unless given; then the KL is distance^2 / (2 sigma^2).
    """
    check_positive("The distance of the means", distance, zero=True)
    check_count("The dimension", dimension)
    check_positive("sigma", sigma)
    prior_sigma = sigma if prior_sigma is None else prior_sigma
    check_positive("The prior's sigma", prior_sigma)
    ratio = (sigma / prior_sigma) ** 2
    return dimension / 2 * (ratio - 1 - math.log(ratio)) + distance**2 / (2 * prior_sigma**2)


def _rate(risk: float, kl: float, n: int, delta: float) -> float:
    _check(risk, kl, n, delta)
    if n < 8:
        raise InputError(f"There are {n} samples; the constant of this bound is proved for 8 or more.")
    return _outward((kl + math.log(2 * math.sqrt(n) / delta)) / n)


def _check(risk: float, kl: float, n: int, delta: float) -> None:
    check_share("The Gibbs risk", risk, closed=True)
    check_share("delta", delta)
    check_count("The number of samples", n)
    if not kl >= 0:
        raise InputError(f"The KL divergence is {kl:g}; give a number of at least 0.")


def _outward(value: float) -> float:
    return value * (1 + OUTWARD)
