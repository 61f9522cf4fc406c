"""Adversarial Rademacher complexity of linear classifiers, exact for given signs.

The class is {x -> <w, x>: ||w||_p <= W}; an attacker may move x by up to eps in the r-norm, so a sample (x, y) scores
its worst margin y <w, x> - eps ||w||_r*, where 1/r + 1/r* = 1. With u = mean of s_i y_i x_i and v = mean of s_i over n
samples and random signs s, the supremum over the class is

    W || (|u| - eps v)_+ ||_q    for r = infinity, any p (1/p + 1/q = 1)
    W (||u||_q - eps v)_+        for p = r*

and W ||u||_q without an attacker. The slack that an attacker can add, with D = max of ||w||_r* over ||w||_p <= 1, is
eps W D E|v| / 2: taking s and -s together shows that

    max(natural, slack) <= adversarial <= natural + slack

Reference: Yin, Ramchandran and Bartlett 2019, arXiv:1810.11914 (r = infinity); Awasthi, Frank and Mohri 2020,
arXiv:2004.13617 (any r). Formulas and constants here are derived, and tested against brute force, not copied.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.generalisation.checks import check_count, check_norm, check_positive

EXACT = 14
"""Up to so many samples all 2^n signs are summed, and nothing is estimated."""

CELLS = 2**22
"""Numbers that one block of signs times features may hold."""


@dataclass(frozen=True)
class Rademacher:
    """Complexities of one class on one sample; all in the units of margins.

    natural, adversarial: means over signs, with their standard errors (0 where all signs were summed). slack: what an
    attacker adds at most, in closed form. natural_bound: an upper bound on `natural` in closed form.
    """

    natural: float
    natural_error: float
    adversarial: float
    adversarial_error: float
    slack: float
    natural_bound: float
    draws: int
    exact: bool

    @property
    def lower(self) -> float:
        """What the adversarial complexity is at least (an estimate, as `natural` is)."""
        return max(self.natural, self.slack)

    @property
    def upper(self) -> float:
        """What the adversarial complexity is at most (an estimate, as `natural` is)."""
        return self.natural + self.slack

    @property
    def bound(self) -> float:
        """An upper bound on the adversarial complexity in closed form, without estimates."""
        return self.natural_bound + self.slack

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {**self.__dict__, "lower": self.lower, "upper": self.upper, "bound": self.bound}


def dual(p: float) -> float:
    """The order q with 1/p + 1/q = 1.

    >>> dual(2), dual(1), dual(math.inf)
    (2.0, inf, 1.0)
    """
    check_norm("The order p", p)
    return math.inf if p == 1 else 1.0 if math.isinf(p) else p / (p - 1)


def norm_ratio(d: int, p: float, s: float) -> float:
    """The largest ||w||_s over ||w||_p <= 1 in d dimensions: d^(1/s - 1/p), or 1 where s >= p."""
    return max(1.0, d ** (1 / s - 1 / p))


def mean_absolute_sign(n: int) -> float:
    """E |s_1 + ... + s_n| / n over random signs, exactly: ceil(n/2) C(n, ceil(n/2)) 2^(1-n) / n.

    >>> mean_absolute_sign(1), mean_absolute_sign(2), mean_absolute_sign(3)
    (1.0, 0.5, 0.5)
    """
    check_count("The number of samples", n)
    half = (n + 1) // 2
    if n < 1000:
        return half * math.comb(n, half) / 2 ** (n - 1) / n
    log = math.lgamma(n + 1) - math.lgamma(half + 1) - math.lgamma(n - half + 1) - (n - 1) * math.log(2)
    return half / n * math.exp(log)


def adversarial_supremum(
    x: Tensor, y: Tensor, signs: Tensor, *, eps: float, p: float = 2, radius: float = 1, r: float = math.inf
) -> Tensor:
    """sup over the class of the mean of s_i times the worst margin of sample i: [S], exactly.

    x [n, d], y [n] of +1 and -1, signs [S, n] of +1 and -1. eps: how far an attacker may move x, in the r-norm; 0 gives
    the natural supremum. p, radius: the class. Raises InputError for an r-norm other than infinity with another class
    than p = r*, whose supremum has no closed form here.
    """
    _check(x, y, eps, p, radius, r)
    signs = signs.to(x)
    u, v = signs @ (x * y.to(x)[:, None]) / len(x), signs.mean(1)
    q = dual(p)
    if eps == 0:
        return radius * torch.linalg.vector_norm(u, q, dim=1)
    if math.isinf(r):
        return radius * torch.linalg.vector_norm((u.abs() - eps * v[:, None]).clamp(min=0), q, dim=1)
    if not math.isclose(p, dual(r)):
        raise InputError(
            f"The supremum over ||w||_{p:g} against an attacker in the {r:g}-norm has no closed form here; "
            f"choose p = {dual(r):g}, or r = inf."
        )
    return radius * (torch.linalg.vector_norm(u, q, dim=1) - eps * v).clamp(min=0)


def linear_rademacher(
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    p: float = 2,
    radius: float = 1,
    r: float = math.inf,
    draws: int = 10_000,
    seed: int = 0,
) -> Rademacher:
    """Natural and adversarial Rademacher complexity of linear classifiers on a sample x [n, d], y [n] of +1 and -1.

    eps: how far an attacker may move x, in the r-norm. p, radius: the class {||w||_p <= radius}. Up to 14 samples all
    signs are summed; above, `draws` random ones, the same for both complexities. Raises InputError as
    `adversarial_supremum`, and for too few draws.
    """
    _check(x, y, eps, p, radius, r)
    n, d = x.shape
    exact = n <= EXACT
    if not exact and draws < 2:
        raise InputError(f"{draws} draws tell no standard error; give 2 or more.")
    x = x.double()
    natural, adversarial = [], []
    for signs in _signs(n, 2**n if exact else draws, exact, max(1, CELLS // max(n, d)), seed):
        natural.append(adversarial_supremum(x, y, signs, eps=0, p=p, radius=radius))
        adversarial.append(adversarial_supremum(x, y, signs, eps=eps, p=p, radius=radius, r=r))
    plain, attacked = torch.cat(natural), torch.cat(adversarial)
    count = len(plain)

    def error(values: Tensor) -> float:
        return 0.0 if exact else float(values.std()) / math.sqrt(count)

    return Rademacher(
        natural=float(plain.mean()),
        natural_error=error(plain),
        adversarial=float(attacked.mean()),
        adversarial_error=error(attacked),
        slack=slack(n, d, eps=eps, p=p, radius=radius, r=r),
        natural_bound=natural_bound(x, p=p, radius=radius),
        draws=count,
        exact=exact,
    )


def slack(n: int, d: int, *, eps: float, p: float = 2, radius: float = 1, r: float = math.inf) -> float:
    """What an attacker of radius eps in the r-norm adds to the complexity at most: eps W D E|v| / 2.

    For r = infinity D is d^(1 - 1/p): a factor of the dimension, unless p = 1.
    """
    return eps * radius * norm_ratio(d, p, dual(r)) * mean_absolute_sign(n) / 2


def natural_bound(x: Tensor, *, p: float = 2, radius: float = 1) -> float:
    """An upper bound on the natural complexity, from the columns' Euclidean norms c_j of x [n, d].

    p > 1: W B ||c||_q / n, by Jensen's inequality, with B = 1 for q <= 2 and else Haagerup's constant of Khintchine's
    inequality (Haagerup 1982), sqrt(2) (Gamma((q + 1) / 2) / sqrt(pi))^(1/q). For p near 1, where q is
    large, Massart's lemma is tighter, and the least of both is taken: W max c_j sqrt(2 ln(2 d)) / n times
    d^(1/q), which is 1 for p = 1.
    """
    columns = torch.linalg.vector_norm(x.double(), dim=0)
    (n, d), q = x.shape, dual(p)
    massart = float(columns.max()) * math.sqrt(2 * math.log(2 * d)) * d ** (1 / q)
    if math.isinf(q):
        return radius * massart / n
    log_b = 0.0 if q <= 2 else math.log(2) / 2 + (math.lgamma((q + 1) / 2) - math.log(math.pi) / 2) / q
    khintchine = math.exp(log_b) * float(torch.linalg.vector_norm(columns, q))
    return radius * min(massart, khintchine) / n


def _signs(n: int, count: int, exact: bool, block: int, seed: int):
    """All signs of n samples, or `count` random ones, in blocks [B, n] of float64."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, block):
        rows = min(block, count - start)
        if exact:
            codes = torch.arange(start, start + rows)[:, None]
            yield 2.0 * ((codes >> torch.arange(n)) & 1).double() - 1
        else:
            yield 2.0 * torch.randint(2, (rows, n), generator=generator).double() - 1


def _check(x: Tensor, y: Tensor, eps: float, p: float, radius: float, r: float) -> None:
    if x.dim() != 2 or y.shape != x.shape[:1] or not len(x):
        raise InputError(f"x {tuple(x.shape)} and y {tuple(y.shape)} must be n samples [n, d] and n labels [n].")
    if not bool((y.abs() == 1).all()):
        raise InputError("The labels must be +1 and -1.")
    check_positive("eps", eps, zero=True)
    check_positive("The class's radius", radius)
    check_norm("The order p", p)
    check_norm("The order r", r)
