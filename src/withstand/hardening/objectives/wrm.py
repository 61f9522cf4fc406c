"""Distributional robustness by a Wasserstein penalty."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.registry import Count, NonNegative, Positive
from withstand.core.shapes import flattened
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts.ascent import cross_entropy, looking
from withstand.hardening.parts.penalised import transported
from withstand.hardening.state import State


@objective
class WRM(Objective):
    """Cross-entropy at points z that nearly maximise it less gamma times the squared l2 distance from the input, a
    bound of the loss over all distributions near the data in Wasserstein distance (Sinha, Namkoong and Duchi 2018,
    arXiv:1710.10571).

    The threat plays no part: gamma decides how far points go. They may leave the domain of the data, as in the authors'
    code: cutting them off there would break the closed forms that hold for linear and quadratic losses. Smooth
    activations such as ELU are meant; with others nothing can be certified. `withstand risk` bounds the loss of a
    trained model over distributions, by the same surrogate.

    gamma: 0.5 / 1.3, of the authors' code for MNIST (their parameter eps is 0.5 / gamma). steps: 15 after a first full
    one, of lengths 1 / sqrt(t + 2), as in their code. tolerance: rows stay where the gradient of what is maximised is
    this short.
    """

    norms: ClassVar[tuple[str, ...]] = ()

    gamma: Positive = 0.5 / 1.3
    steps: Count = 15
    tolerance: NonNegative = 0.0

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The ends of walks up the penalised loss."""
        with looking(model, x, state) as x:
            loss = cross_entropy(y)
            return transported(lambda z: loss(model(z)), x, self.gamma, self.steps, self.tolerance)

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        robust = F.cross_entropy(model(at), y)
        cost = flattened(at - x).square().sum(1).mean()
        return Loss(robust, {"robust": robust.detach(), "cost": cost.detach()})
