"""Adversarial training at the points of one gradient step from the input itself."""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.objectives.pgd import mixed
from withstand.hardening.parts.ascent import cross_entropy, looking, slope
from withstand.hardening.state import State


@objective
class FGSM(Objective):
    """Cross-entropy of clean inputs and of those moved by the whole radius along the gradient, its sign in linf (FGSM),
    its direction in l2 (FGM) (Goodfellow et al. 2015, arXiv:1412.6572).

    The points are those of threat and domain together where the linearised loss is largest, so they are the worst ones
    of a linear model.

    Models trained so often withstand this step and nothing else (catastrophic overfitting); the trainer watches for it.
    clean: weight of the clean part, half unless given.
    """

    natural_at_zero = True

    clean: Annotated[float, Ge(0), Le(1)] = 0.5

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The worst points of the linearised loss."""
        threat, against = state.now, cross_entropy(y)
        if threat.radius == 0:
            return x
        with looking(model, x, state) as x:
            return threat.extreme(x, -slope(lambda point: against(model(point)).sum(), x))

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        return mixed(model, x, at, y, self.clean)
