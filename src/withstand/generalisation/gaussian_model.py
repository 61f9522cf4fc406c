"""Schmidt et al.'s Gaussian model: a few samples suffice to be right, and many are needed to be robust.

A sample is y = +1 or -1 and x ~ N(y theta, sigma^2 I) in d dimensions with ||theta|| = sqrt(d); the learner takes the
mean of y x over n samples as its weights w. Given w, both error rates are values of the normal distribution function,

    natural  Phi(-<w, theta> / (sigma ||w||))        robust  Phi((eps ||w||_1 - <w, theta>) / (sigma ||w||))

against moves of up to eps in the infinity norm. Reference: Schmidt, Santurkar, Tsipras, Talwar and Madry 2018,
arXiv:1804.11285. Here theta is a vector of ones: any of +1 and -1 gives the same.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.generalisation.bound import Table, table
from withstand.generalisation.checks import check_count, check_positive, check_share
from withstand.generalisation.search import least_samples

CELLS = 2**22
"""Normal numbers drawn at a time."""


def gaussian_errors(w: Tensor, theta: Tensor, *, sigma: float, eps: float) -> tuple[Tensor, Tensor]:
    """Natural and robust error of each row of w [S, d] on the model (theta [d], sigma), exactly: two of [S].

    eps: how far each feature may be moved. Raises InputError when a row of w is zero or sigma is not positive.
    """
    check_positive("sigma", sigma)
    check_positive("eps", eps, zero=True)
    w, theta = w.double(), theta.double()
    return _errors(w @ theta, w.norm(dim=1), w.abs().sum(1), sigma, eps)


def mean_errors(d: int, n: int, *, sigma: float, eps: float, draws: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Natural and robust error after training on n samples, for each of `draws` training sets: two of [draws].

    The mean of n samples is theta + sigma / sqrt(n) times normal numbers; the same numbers serve every n.
    """
    check_count("The dimension", d)
    check_count("The number of samples", n)
    check_count("The number of draws", draws)
    generator = torch.Generator().manual_seed(seed)
    theta = torch.ones(d, dtype=torch.float64)
    blocks = []
    for rows in torch.arange(draws).split(max(1, CELLS // d)):
        noise = torch.randn(len(rows), d, generator=generator, dtype=torch.float64)
        blocks.append(gaussian_errors(theta + sigma / math.sqrt(n) * noise, theta, sigma=sigma, eps=eps))
    natural, robust = zip(*blocks)
    return torch.cat(natural), torch.cat(robust)


def gaussian_table(
    dims: Sequence[int] = (100, 1000, 10_000, 100_000),
    *,
    spread: float = 0.5,
    eps: float = 0.5,
    target: float = 0.05,
    most: int = 2**16,
    draws: int = 16,
    seed: int = 0,
) -> Table:
    """How many samples bring the mean natural and robust error to `target`, in each dimension.

    spread: sigma = spread * d^(1/4), the scale at which one sample suffices for the natural error. eps: the radius in
    the infinity norm, where each feature of theta is 1. most: samples tried at most; beyond, None. Errors are means
    over `draws` training sets.
    """
    check_share("The target", target)
    check_positive("spread", spread)
    if not 0 <= eps < 1:
        raise InputError(f"eps is {eps:g}; from 1 on a move hides the whole signal, so give less than 1.")
    rows = []
    for d in dims:
        check_count("The dimension", d)
        sigma = spread * d**0.25

        def error(n: int, which: int, d: int = d, sigma: float = sigma) -> float:
            return float(mean_errors(d, n, sigma=sigma, eps=eps, draws=draws, seed=seed)[which].mean())

        needed = [least_samples(lambda n, which=which: error(n, which), target, most) for which in (0, 1)]
        rows.append((d, sigma, eps, error(1, 0), error(1, 1), *needed))
    return table(
        f"Gaussian model: samples for an error of {target:g}",
        ("d", "sigma", "eps", "natural at n=1", "robust at n=1", "n natural", "n robust"),
        rows,
        [f"Means of exact error rates over {draws} training sets. Schmidt et al. 2018, arXiv:1804.11285."],
    )


def _errors(along: Tensor, norm: Tensor, norm1: Tensor, sigma: float, eps: float) -> tuple[Tensor, Tensor]:
    if not bool((norm > 0).all()):
        raise InputError("A classifier's weights are all zero, so it has no side; give other weights.")
    scale = sigma * norm
    return torch.special.ndtr(-along / scale), torch.special.ndtr((eps * norm1 - along) / scale)
