"""What the model smoothed by Gaussian noise withstands on validation samples, by an estimate that chooses an epoch."""

from collections.abc import Sequence
from statistics import NormalDist

from torch import Tensor, nn

from withstand.core.rng import row_seeds
from withstand.core.threat import Threat
from withstand.smoothing.votes import count_votes

DRAWS = 32
"""Noisy copies of a sample: our own choice. For 1,000 samples they are 32,000 forward passes, about a fifth of an epoch
of training under noise on 60,000, and more samples tell epochs apart better than more copies of fewer."""


def vote(module: nn.Module, x: Tensor, y: Tensor, threat: Threat, sigma: float, ids: Sequence[int]) -> Tensor:
    """Which of the samples x [B, *shape] with classes y int64 [B] the smoothed model seems to withstand the threat on:
    bool [B].

    A class with probability p under noise of standard deviation sigma > 0 stays the smoothed model's up to sigma times
    the normal quantile of p in l2 (Cohen et al. 2019, arXiv:1902.02918). So more than `needed` of all copies must get
    the class, or all that are drawn: at the radius of a threat in l2, else at zero, where the majority decides. It is
    an estimate without a bound on its error and certifies nothing. The copies belong to `ids`, and are the same
    whenever this is asked.

    Raises InputError when the model answers a NaN.
    """
    if len(x) == 0:
        return y.bool()
    votes = count_votes(module, x, sigma, DRAWS, row_seeds(0, ids, "validation under noise").tolist())
    right = votes.gather(1, y[:, None]).squeeze(1)
    return (right > needed(threat, sigma) * DRAWS) | (right == DRAWS)


def needed(threat: Threat, sigma: float) -> float:
    """The probability of a class above which the smoothed model keeps it within the threat."""
    return NormalDist().cdf(threat.radius / sigma) if threat.norm == "l2" else 0.5
