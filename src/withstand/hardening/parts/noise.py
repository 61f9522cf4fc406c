"""Gaussian noise around inputs, and the average answer of a model under it."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.registry import NonNegative
from withstand.hardening.objective import Judge, Model, Objective
from withstand.hardening.state import State


@dataclass(frozen=True, kw_only=True)
class ForVote(Objective):
    """What objectives share that train for the vote under Gaussian noise of `withstand smooth`. sigma: its standard
    deviation, in the units of the data, 0.25 as the least of Cohen et al. 2019 (arXiv:1902.02918); 0 is no noise."""

    sigma: NonNegative = 0.25

    @property
    def judged_by(self) -> Judge:  # type: ignore[override]
        """The vote, as long as there is noise."""
        return "smoothed" if self.sigma > 0 else "clean"


def noise(x: Tensor, state: State, sigma: float, draws: int) -> Tensor:
    """Gaussian noise of standard deviation sigma [B, draws, *shape] for the rows of x [B, *shape]; the same whenever it
    is asked for within a step."""
    return sigma * state.rng(x, "noise").normal((draws, *x.shape[1:]), x.dtype)


def under(model: Model, x: Tensor, noise: Tensor) -> Tensor:
    """The model's outputs [B, draws, K] at x [B, *shape] under noise [B, draws, *shape], in one pass."""
    return model((x[:, None] + noise).flatten(0, 1)).unflatten(0, noise.shape[:2])


class Noisy(nn.Module):
    """A module that answers under fixed noise [B, draws, *shape]: [B, *shape] to [B, draws, K]."""

    def __init__(self, module: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.module, self.noise = module, noise

    def forward(self, x: Tensor) -> Tensor:
        """Outputs at x under the noise."""
        return under(self.module, x, self.noise)


def average(outputs: Tensor) -> Tensor:
    """The logarithm [B, K] of the mean over draws of the probabilities of outputs [B, draws, K]."""
    logs = F.log_softmax(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), 2)
    return torch.logsumexp(logs, 1) - math.log(outputs.shape[1])


def lead(outputs: Tensor, y: Tensor) -> Tensor:
    """By how many of the draws of outputs [B, draws, K] the vote for the classes y int64 [B] leads the best other one:
    [B], above zero where it is won."""
    votes = F.one_hot(outputs.argmax(2), outputs.shape[2]).sum(1)
    others = votes.scatter(1, y[:, None], -1)
    return (votes.gather(1, y[:, None]).squeeze(1) - others.amax(1)).to(outputs.dtype)
