"""Adversarial training of the smoothed model."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.registry import Count, Positive
from withstand.hardening.objective import Loss, Model, objective
from withstand.hardening.parts.ascent import ascend, cross_entropy
from withstand.hardening.parts.nearest import nearest
from withstand.hardening.parts.noise import ForVote, Noisy, average, lead, noise, under
from withstand.hardening.state import State


@objective
class SmoothAdv(ForVote):
    """Cross-entropy under Gaussian noise at the points that are worst for the smoothed model, which projected steps up
    minus the logarithm of the mean probability over noise find (Salman et al. 2019, arXiv:1906.04584).

    All steps of a walk, and the loss at its end, see the same draws of noise; the points stay in the threat's domain.
    Let its radius warm up; at 0 it is training under noise alone. sigma: standard deviation of the noise, 0.25, that
    of the vote to come. draws: of noise for each input, 1 as in the authors' code; the paper tries up to 8. steps: of
    the walk from the input, 10, and step, as a share of the radius, so that all steps together go twice as far: both
    from that code. walk: `pgd`, or `ddn`, the paper's other one, which looks for the nearest point whose vote over the
    draws is lost (or tied) on spheres that shrink and grow as in the attack of that name, and ignores `step`. A point
    beyond the radius is pulled back to it, and a row without such a point stays, as in the authors' code; their
    rounding to 256 levels is left out.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    sigma: Positive = 0.25
    draws: Count = 1
    steps: Count = 10
    step: Positive = 0.2
    walk: Literal["pgd", "ddn"] = "pgd"

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the loss of the smoothed model, or the nearest point on it where the vote is lost."""
        noisy, each = Noisy(model, noise(x, state, self.sigma, self.draws)), cross_entropy(y)

        def loss(outputs: Tensor) -> Tensor:
            return each(average(outputs))

        if self.walk == "ddn":
            return nearest(noisy, loss, lambda outputs: lead(outputs, y), x, state, steps=self.steps)
        return ascend(noisy, loss, x, state, steps=self.steps, step=self.step, start="clean")

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        outputs = under(model, at, noise(x, state, self.sigma, self.draws))
        value = F.cross_entropy(outputs.flatten(0, 1), y.repeat_interleave(self.draws))
        return Loss(value, {"noisy": value.detach(), "smoothed": F.nll_loss(average(outputs), y).detach()})
