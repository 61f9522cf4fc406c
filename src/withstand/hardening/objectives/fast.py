"""Adversarial training at the points of one gradient step from a random start."""

import math
from dataclasses import replace

from torch import Tensor, nn

from withstand.core.registry import Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.objectives.pgd import mixed
from withstand.hardening.parts.ascent import climb, cross_entropy, looking
from withstand.hardening.state import State


@objective
class Fast(Objective):
    """Cross-entropy at the points that one step from a random start finds: FGSM-RS, "fast is better than free" (Wong et
    al. 2020, arXiv:2001.03994).

    step: length of the step as a share of the radius, 1.25 as in the paper; longer ones invite catastrophic
    overfitting. The start may lie outside the domain, as in the authors' code: from one inside it, a step of this
    length ends at a corner of the box wherever the input is at an end of the domain, as most of MNIST is, and nothing
    random is left.
    """

    natural_at_zero = True

    step: Positive = 1.25

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """One step from a random point of the ball, then back into ball and domain."""
        threat = state.now
        if threat.radius == 0:
            return x
        loss = cross_entropy(y)
        with looking(model, x, state) as x:
            start = replace(threat, domain=(-math.inf, math.inf)).sample(x, state.rng(x, "fast"))
            return climb(lambda point: loss(model(point)).sum(), x, start, threat, self.step)

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        return mixed(model, x, at, y, 0.0)
