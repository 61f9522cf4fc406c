"""Lipschitz regularisation: a penalty on the norms of the layers."""

from typing import Literal

import torch
from torch import Tensor, nn

from withstand.core.registry import NonNegative
from withstand.hardening.objective import Addition, Loss, LossFunction, addition
from withstand.hardening.parts.spectral import Norm, form, improved, layers, matrices, sigma, start
from withstand.hardening.state import State

NAME = "lipschitz-penalty"


@addition
class LipschitzPenalty(Addition):
    """A penalty on the product of the layers' norms, which bounds the Lipschitz constant of layers in a row, or on its
    logarithm (compare Yoshida and Miyato 2017, arXiv:1705.10941, who add up the squares of the norms).

    The norms are those of the live weights, by a step of the power method a batch from vectors kept in `State.held`,
    with their gradients; they come from below, so this steers the training and certifies nothing: for that, use
    `withstand verify --method lipschitz` on the trained model. weight: of the penalty in the loss; 0.1 of the logarithm
    is our own choice. of: `log` or `product`. norm: of a convolution, `layer` with its stride and dilation, or `matrix`
    as the weights [out, in * kernel].
    """

    weight: NonNegative = 0.1
    of: Literal["log", "product"] = "log"
    norm: Norm = "layer"

    def prepare(self, module: nn.Module) -> None:
        layers(module)

    def loss(self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value, logs = rest(model, x, at, y, state)
        if self.weight == 0:
            return Loss(value, logs)
        log = self.log_product(model, state)
        penalty = log if self.of == "log" else log.exp()
        return Loss(value + self.weight * penalty, {**logs, NAME: penalty.detach()})

    def log_product(self, model: nn.Module, state: State) -> Tensor:
        """The logarithm of the product of all layers' norms: a scalar. The kept vectors improve by a step."""
        found = []
        for name, layer in layers(model).items():
            with torch.autocast(layer.weight.device.type, enabled=False):
                parts, key = matrices(layer.weight, form(layer, self.norm)), f"{NAME}.{name}"
                with torch.inference_mode(False), torch.no_grad():
                    held = state.held.get(key)
                    copy = parts.detach().clone()
                    v = start(copy) if held is None else improved(copy, held)
                    state.held[key] = v
                found.append(sigma(parts, v).log())
        return torch.stack(found).sum()
