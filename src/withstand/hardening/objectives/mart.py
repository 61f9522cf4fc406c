"""MART: adversarial training that minds the inputs which are wrong when clean."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.registry import Count, NonNegative, Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts.ascent import ascend, cross_entropy
from withstand.hardening.parts.divergence import divergence, log_shares
from withstand.hardening.state import State

GUARD = 1.0001
"""In place of 1, so that the logarithm of what is left of a certain wrong class is finite (the authors' code)."""


@objective
class MART(Objective):
    """Misclassification-aware adversarial training (Reference: Wang et al., Improving Adversarial Robustness Requires
    Revisiting Misclassified Examples, ICLR 2020): the cross-entropy at the points that projected gradient ascent finds,
    plus the logarithm of what the strongest wrong class leaves there, plus beta times the divergence of the answers
    from those at the inputs, each row weighed by how little the model trusts its class there.

    beta: 5, and steps: 10 of length `step`, as a share of the radius .226 (.007 of .031), are those of the authors'
    script for CIFAR-10, as is the start beside the input. Attacks on the cross-entropy overstate the robustness of
    models trained so: measure it by attacks on margins too.
    """

    beta: NonNegative = 5.0
    steps: Count = 10
    step: Positive = 0.226

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the cross-entropy."""
        return ascend(
            model, cross_entropy(y), x, state, steps=self.steps, step=self.step, start="noise", purpose="mart"
        )

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        outputs = model(x)
        moved = outputs if at is x else model(at)
        boosted = boosted_cross_entropy(moved, y).mean()
        doubt = 1 - log_shares(outputs).gather(1, y[:, None]).squeeze(1).exp()
        robust = (divergence(outputs, moved) * doubt).mean()
        logs = {"boosted": boosted.detach(), "divergence": robust.detach()}
        return Loss(boosted + self.beta * robust, logs)


def boosted_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """-log p_y - log(1 - p_k) of the strongest wrong class k, a row of logits [B, K]: [B]."""
    shares = log_shares(outputs).exp()
    wrong = shares.masked_fill(F.one_hot(y, outputs.shape[1]).bool(), 0.0).amax(1)
    return -log_shares(outputs).gather(1, y[:, None]).squeeze(1) - torch.log(GUARD - wrong)
