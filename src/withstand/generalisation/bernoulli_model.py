"""Schmidt et al.'s Bernoulli model: linear classifiers need many samples to be robust, a threshold before them restores
one.

A sample is y = +1 or -1 and x in {-1, +1}^d whose features equal y theta_j with probability 1/2 + tau each. The linear
learner takes the mean of y x over n samples as its weights w; its robust margin is y <w, x> - eps ||w||_1. The
thresholded one classifies sgn(x), which no move below 1 changes, so that its robust error is its natural one.

Both error rates, means over training set and test sample, are computed exactly: with theta all ones (by symmetry) the
scaled robust margin is a sum of d independent, equal terms S b - eps |S|, where S is a sum of n signs and b one sign,
each +1 with probability 1/2 + tau. Its distribution on a lattice is the d-th power of one Fourier transform. A margin
of 0 counts as an error. Reference: Schmidt, Santurkar, Tsipras, Talwar and Madry 2018, arXiv:1804.11285.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from withstand.core.errors import InputError
from withstand.generalisation.bound import Table, table
from withstand.generalisation.checks import check_count, check_positive, check_share
from withstand.generalisation.search import least_samples

TAIL = 36
"""Mass of the margin outside the lattice that is kept: at most 2 exp(-36), by Hoeffding's inequality."""

POINTS = 2**25
"""Points of the lattice at most."""

DENOMINATOR = 32
"""Largest denominator of a radius: the lattice grows with it."""


def bernoulli_error(d: int, n: int, *, tau: float, eps: float | Fraction = 0) -> float:
    """The linear learner's mean robust error at eps after n samples (natural for eps 0), to within 1e-9.

    tau: above 0, at most 1/2. eps: below 1, and a fraction with a denominator of at most 32. Raises InputError
    otherwise, and where the lattice would have too many points.
    """
    from scipy.stats import binom

    _check(d, n, tau)
    radius = _fraction(eps)
    a, b = radius.numerator, radius.denominator
    counts = np.arange(n + 1)
    sums = 2 * counts - n
    chance = binom.pmf(counts, n, 0.5 + tau)
    places = np.concatenate([b * sums - a * abs(sums), -b * sums - a * abs(sums)])
    weights = np.concatenate([chance * (0.5 + tau), chance * (0.5 - tau)])
    return _tail(places, weights, d)


def thresholded_error(d: int, n: int, *, tau: float, eps: float = 0) -> float:
    """The mean robust error at eps of the linear learner on sgn(x): the natural one, for every eps below 1."""
    if not 0 <= eps < 1:
        raise InputError(f"eps is {eps:g}; a threshold at 0 withstands moves of less than 1 only.")
    return bernoulli_error(d, n, tau=tau)


def bernoulli_table(
    dims: Sequence[int] = (100, 400, 1600, 6400),
    *,
    bias: float = 1.0,
    strength: float = 1.5,
    target: float = 0.05,
    most: int = 2**11,
) -> Table:
    """How many samples bring the mean robust error of both learners to `target`, in each dimension.

    bias: tau = bias * d^(-1/4), the scale at which one sample suffices for the natural error. strength: eps = strength
    * tau, rounded to a fraction; no linear classifier withstands 2 tau. most: samples tried at most; beyond, None.
    """
    check_share("The target", target)
    check_positive("bias", bias)
    if not 0 < strength < 2:
        raise InputError(f"The strength is {strength:g}; no linear classifier withstands 2 tau, so give less than 2.")
    rows = []
    for d in dims:
        check_count("The dimension", d)
        tau = bias * d**-0.25
        eps = Fraction(strength * tau).limit_denominator(DENOMINATOR)

        def linear(n: int, d: int = d, tau: float = tau, eps: Fraction = eps) -> float:
            return bernoulli_error(d, n, tau=tau, eps=eps)

        def thresholded(n: int, d: int = d, tau: float = tau, eps: Fraction = eps) -> float:
            return thresholded_error(d, n, tau=tau, eps=float(eps))

        needed = [least_samples(error, target, most) for error in (linear, thresholded)]
        rows.append((d, tau, float(eps), bernoulli_error(d, 1, tau=tau), linear(1), *needed))
    return table(
        f"Bernoulli model: samples for a robust error of {target:g}",
        ("d", "tau", "eps", "natural at n=1", "robust at n=1", "n linear", "n thresholded"),
        rows,
        ["Exact means over training sets and samples. Schmidt et al. 2018, arXiv:1804.11285."],
    )


def _check(d: int, n: int, tau: float) -> None:
    check_count("The dimension", d)
    check_count("The number of samples", n)
    if not 0 < tau <= 0.5:
        raise InputError(f"tau is {tau:g}; a feature is right with probability 1/2 + tau, so give 0 < tau <= 1/2.")


def _fraction(eps: float | Fraction) -> Fraction:
    found = Fraction(eps).limit_denominator(DENOMINATOR)
    if not 0 <= found < 1 or abs(found - Fraction(eps)) > 1e-9:
        raise InputError(
            f"eps is {float(eps):.6g}; give a fraction from 0 to below 1 with a denominator of at most {DENOMINATOR}."
        )
    return found


def _tail(places: np.ndarray, weights: np.ndarray, d: int) -> float:
    """The chance that a sum of d independent terms, on whole `places` with these `weights`, is at most 0."""
    low, high = int(places.min()), int(places.max())
    reach = (high - low) * math.sqrt(d * TAIL / 2)
    mean = d * float(places @ weights)
    first, last = max(d * low, math.floor(mean - reach)), min(d * high, math.ceil(mean + reach))
    if last <= 0 or first > 0:
        return float(last <= 0)
    size = 2 ** (last - first).bit_length()
    if size > POINTS:
        raise InputError(f"The margin takes {size} values, too many to sum; give fewer samples or a rounder eps.")
    term = np.bincount(places % size, weights=weights / weights.sum(), minlength=size)
    held = np.fft.irfft(np.fft.rfft(term) ** d, size)
    inside = np.arange(first, 1)
    return float(np.clip(held[inside % size].sum(), 0, 1))
