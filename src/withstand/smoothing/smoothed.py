"""The smoothed model: the class that a model names most often on noisy copies of an input.

Randomised smoothing as in Cohen et al. 2019 (arXiv:1902.02918). All that is said here is about this smoothed model, not
about the model below it, and it is a statistic: each statement is false with a chance of at most alpha. It supposes
exact Gaussian noise and exact sums; the rounding of floating-point numbers is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.rng import row_seeds
from withstand.smoothing.binomial import fair_chance, least_draws, lower_bound
from withstand.smoothing.votes import BATCH, count_votes


@dataclass(frozen=True)
class Predicted:
    """The answers of PREDICT for B inputs.

    answer: int64 [B], the class, or -1 where it abstains. counts: int64 [B, K], votes. p_value: float64 [B], of a fair
    coin between the two classes named most often.
    """

    answer: Tensor
    counts: Tensor
    p_value: Tensor


@dataclass(frozen=True)
class Certified:
    """The answers of CERTIFY for B inputs.

    answer: int64 [B], the class, or -1 where it abstains. guess: int64 [B], the class that the first draws named most
    often. counts: int64 [B, K], the votes of the others. bound: float64 [B], lower bound on the probability of the
    guess. radius: float64 [B], the smoothed model answers `answer` at every point less than this far away in l2; 0
    where it abstains.
    """

    answer: Tensor
    guess: Tensor
    counts: Tensor
    bound: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Smoothing:
    """Noise, draws and error of a smoothed model, checked.

    sigma: standard deviation of the Gaussian noise, in the units of the data. draws: the n of the paper; its number,
    100,000, makes large radii, and fewer make cheaper ones. first_draws: the n0 of the paper, which choose the class to
    certify. alpha: the chance at most that one answer is false. seed: of the noise. batch: noisy copies in a forward
    pass.

    Raises InputError when a number is out of its range.
    """

    sigma: float
    draws: int = 100_000
    first_draws: int = 100
    alpha: float = 0.001
    seed: int = 0
    batch: int = BATCH

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise InputError(f"Noise of sigma {self.sigma:g} smooths nothing; give a positive number, as 0.25.")
        if not 0 < self.alpha < 1:
            raise InputError(f"The chance of an error, alpha, is {self.alpha:g}; give one between 0 and 1, as 0.001.")
        for name, value in (("n", self.draws), ("n0", self.first_draws), ("batch", self.batch)):
            if value < 1:
                raise InputError(f"There must be at least one draw, but {name} is {value}.")

    @property
    def cap(self) -> float:
        """The radius where all draws agree, above which nothing can be certified with so many.

        Raises InputError when even this is none."""
        if self.draws < (least := least_draws(self.alpha)):
            raise InputError(
                f"With n={self.draws} and alpha {self.alpha:g} nothing can be certified even where all draws agree; "
                f"give n={least} or more."
            )
        return float(self._radius(lower_bound(torch.tensor([self.draws]), self.draws, self.alpha)))

    def predict(self, model: Callable[[Tensor], Tensor], x: Tensor, ids: Sequence[int]) -> Predicted:
        """The class of each input x [B, *shape], or an abstention where the two classes ahead may be equally likely.

        ids: the inputs' numbers, from which their noise comes."""
        counts = self._votes(model, x, self.draws, ids, "count")
        top = counts.topk(2, dim=1)
        chance = fair_chance(top.values[:, 0], top.values[:, 1]).to(x.device)
        return Predicted(torch.where(chance <= self.alpha, top.indices[:, 0], -1), counts, chance)

    def certify(self, model: Callable[[Tensor], Tensor], x: Tensor, ids: Sequence[int]) -> Certified:
        """The class of each input x [B, *shape] with the radius within which the smoothed model names it.

        First draws guess the class; fresh ones, always `draws` many, bound its probability from below. ids: as above.
        """
        guess = self._votes(model, x, self.first_draws, ids, "guess").argmax(1)
        counts = self._votes(model, x, self.draws, ids, "count")
        bound = lower_bound(counts.gather(1, guess[:, None]).squeeze(1), self.draws, self.alpha).to(x.device)
        sure = bound >= 0.5
        radius = self._radius(bound).where(sure, 0.0)
        return Certified(torch.where(sure, guess, -1), guess, counts, bound, radius)

    def _votes(
        self, model: Callable[[Tensor], Tensor], x: Tensor, draws: int, ids: Sequence[int], stage: str
    ) -> Tensor:
        seeds = row_seeds(self.seed, ids, f"smooth {stage}").tolist()
        return count_votes(model, x, self.sigma, draws, seeds, self.batch)

    def _radius(self, bound: Tensor) -> Tensor:
        return self.sigma * torch.special.ndtri(bound)
