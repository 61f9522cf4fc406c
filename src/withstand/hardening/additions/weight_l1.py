"""The absolute sum of the weights as a penalty."""

import torch
from torch import Tensor, nn

from withstand.core.registry import NonNegative
from withstand.hardening.objective import Addition, Loss, LossFunction, addition
from withstand.hardening.state import State


@addition
class WeightL1(Addition):
    """A penalty on the absolute sum of all weights of two axes or more: many of them vanish, and bounds on the model
    become tighter (Xiao et al. 2019, arXiv:1809.03008).

    weight: of the sum in the loss; 3e-4 suits networks of some 40,000 weights (our own choice), certified training of
    large ones takes 1e-6.
    """

    weight: NonNegative = 3e-4

    def loss(self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value, logs = rest(model, x, at, y, state)
        size = torch.stack([p.abs().sum() for p in model.parameters() if p.dim() > 1]).sum()
        return Loss(value + self.weight * size, {**logs, "weight-l1": size.detach()})
