"""Adversarial training at the points of one gradient step from a random start."""

from torch import Tensor, nn

from withstand.core.registry import Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.objectives.pgd import mixed
from withstand.hardening.parts.ascent import ascend, cross_entropy
from withstand.hardening.state import State


@objective
class Fast(Objective):
    """Cross-entropy at the points that one step from a random start finds: FGSM-RS, "fast is better than free" (Wong et
    al. 2020, arXiv:2001.03994).

    step: length of the step as a share of the radius, 1.25 as in the paper; longer ones invite catastrophic
    overfitting.
    """

    natural_at_zero = True

    step: Positive = 1.25

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """One step from a random point of the threat, projected back."""
        return ascend(model, cross_entropy(y), x, state, steps=1, step=self.step, purpose="fast")

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        return mixed(model, x, at, y, 0.0)
