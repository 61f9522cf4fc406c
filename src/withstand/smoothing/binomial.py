"""What a count of draws says of the probability behind it: exact binomial statistics, over whole tensors of counts."""

import math

import numpy as np
import torch
from torch import Tensor


def lower_bound(hits: Tensor, draws: int, alpha: float) -> Tensor:
    """Clopper and Pearson's one-sided lower bound (doi:10.2307/2331986) on the probability of a hit, float64 [B].

    hits: int [B], of so many independent draws. The bound exceeds the true probability with a chance of at most alpha,
    whatever that probability is; it is the probability at which so many hits or more have the chance alpha.
    """
    from scipy.special import betaincinv

    k = hits.cpu().double().numpy()
    low = betaincinv(np.maximum(k, 1), draws - k + 1, alpha)
    return torch.from_numpy(np.where(k == 0, 0.0, low))


def fair_chance(first: Tensor, second: Tensor) -> Tensor:
    """The two-sided p-value, float64 [B], of counts first >= second (int [B]) if both were equally likely."""
    from scipy.special import betainc

    k, m = first.cpu().double().numpy(), second.cpu().double().numpy()
    upper = betainc(np.maximum(k, 1), m + 1, 0.5)  # the chance of k hits or more in k + m fair draws
    return torch.from_numpy(np.where(k == m, 1.0, np.minimum(1.0, 2 * upper)))


def least_draws(alpha: float) -> int:
    """The fewest draws whose lower bound is above one half where all are hits."""
    return math.floor(math.log(alpha) / math.log(0.5)) + 1
