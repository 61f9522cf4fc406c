"""Adversarial training at the points of one gradient step from the input itself."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.objectives.pgd import mixed
from withstand.hardening.parts.ascent import ascend
from withstand.hardening.state import State


@objective
class FGSM(Objective):
    """Cross-entropy of clean inputs and of those moved by the whole radius along the gradient, its sign in linf (FGSM),
    its direction in l2 (FGM) (Goodfellow et al. 2015, arXiv:1412.6572).

    Models trained so often withstand this step and nothing else (catastrophic overfitting); the trainer watches for it.
    clean: weight of the clean part, half as in the paper.
    """

    clean: Annotated[float, Ge(0), Le(1)] = 0.5

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """One step of the length of the radius."""
        return ascend(
            model,
            lambda outputs: F.cross_entropy(outputs, y, reduction="none"),
            x,
            state,
            steps=1,
            step=1.0,
            start="clean",
        )

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        return mixed(model, x, at, y, self.clean)
