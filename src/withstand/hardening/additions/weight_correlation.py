"""Weight correlation descent: neurons of a layer are kept unlike each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.core.registry import NonNegative
from withstand.generalisation.correlation import is_correlated, layer_divergence
from withstand.hardening.objective import Addition, Loss, LossFunction, addition
from withstand.hardening.state import State

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@addition
class WeightCorrelation(Addition):
    """Weight correlation descent (Jin et al. 2020, arXiv:2010.05983): a penalty on g(rho), by which the correlation rho
    of a layer's neurons enlarges a PAC-Bayes bound.

    The penalty is the sum over layers of g over the number of the layer's weights. Layers are the convolutions with
    more than one weight a kernel; in a network without these, all fully connected ones but the last, whose neurons are
    the classes (our reading: the released code leaves out the first as well). The gradient is that of g itself: the
    factor before the gradient of rho in the released code has a plus where the derivative of g has a minus.

    weight: of the penalty in the loss. 0.1 is the released code's share of the gradient of rho, whose factor it brings
    to between 0.5 and 5 by powers of ten; the division by the number of weights, ours, makes it about 1.
    """

    weight: NonNegative = 0.1

    def prepare(self, module: nn.Module) -> None:
        correlated(module)

    def loss(self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value, logs = rest(model, x, at, y, state)
        if self.weight == 0:
            return Loss(value, logs)
        parts = [
            layer_divergence(layer.weight, getattr(layer, "groups", 1)) / layer.weight.numel()
            for layer in correlated(model)
        ]
        penalty = torch.stack(parts).sum()
        return Loss(value + self.weight * penalty, {**logs, "weight-correlation": penalty.detach()})


def correlated(module: nn.Module) -> Sequence[Convolution | nn.Linear]:
    """The layers whose neurons' correlation is penalised; raises InputError where there are none."""
    parts = list(module.modules())
    convolutions = [part for part in parts if isinstance(part, Convolution) and is_correlated(part.weight)]
    found = convolutions or [part for part in parts if isinstance(part, nn.Linear)][:-1]
    if not found:
        raise InputError(
            "The model has neither a convolution with more than one weight a kernel nor a hidden fully connected "
            "layer, so there is no weight correlation to lower; take the addition out."
        )
    return found
