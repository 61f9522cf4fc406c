"""Adversarial training at the points that projected gradient steps find."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.core.registry import Count, Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts.ascent import Start, ascend, cross_entropy
from withstand.hardening.state import State


@objective
class PGD(Objective):
    """Cross-entropy at the worst points that projected gradient ascent (PGD; PGM in l2) finds around each input (Madry
    et al. 2018, arXiv:1706.06083).

    steps: of the ascent, 7 as is usual for CIFAR-10 (the authors' code takes 40 for MNIST). step: length of one as a
    share of the radius, 0.25 as the 2/255 of 8/255 of Rice et al. 2020, arXiv:2002.11569. start: random, noise or
    clean. clean: weight of the cross-entropy of the unchanged inputs, the rest being that of the points found.
    """

    natural_at_zero = True

    steps: Count = 7
    step: Positive = 0.25
    start: Start = "random"
    clean: Annotated[float, Ge(0), Le(1)] = 0.0

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the cross-entropy."""
        return ascend(
            model,
            cross_entropy(y),
            x,
            state,
            steps=self.steps,
            step=self.step,
            start=self.start,
            purpose="pgd",
        )

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        return mixed(model, x, at, y, self.clean)


def mixed(model: Model, x: Tensor, at: Tensor, y: Tensor, clean: float) -> Loss:
    """Cross-entropy at x, of weight `clean`, and at the points found, of the remaining weight; once where both are the
    same."""
    robust = F.cross_entropy(model(at), y)
    if clean == 0 or at is x:
        return Loss(robust, {"robust": robust.detach()})
    natural = F.cross_entropy(model(x), y)
    return Loss(clean * natural + (1 - clean) * robust, {"clean": natural.detach(), "robust": robust.detach()})
