"""Adversarial weight perturbation: the loss where the weights, too, are moved against the model."""

import copy
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from withstand.core.registry import NonNegative
from withstand.hardening.objective import Addition, Loss, LossFunction, addition
from withstand.hardening.parts.lending import inside, randomness
from withstand.hardening.state import State


@addition
class AWP(Addition):
    """Take the loss at weights moved along its gradient, each layer's by gamma times its length; the model's own stay
    where they are, and get the gradient of there (Wu et al. 2020, arXiv:2004.05884).

    Weights of two or more dimensions move, biases and scales do not, as in the authors' code. gamma: 0.005, the
    authors' for TRADES (0.01 for adversarial training). warmup: share of the training before the first move, so that it
    needs `State.done` (the authors' 10 of 200 epochs for TRADES are 0.05). In several processes each moves the weights
    by its own part of the batch.
    """

    coupled: ClassVar[bool] = True

    gamma: NonNegative = 0.005
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0

    def loss(self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        if self.gamma == 0 or state.done < self.warmup or not torch.is_grad_enabled():
            return rest(model, x, at, y, state)
        moves = self.moves(rest, model, x, at, y, state)
        weights = dict(model.named_parameters())
        moved = {name: weights[name] + move for name, move in moves.items()}
        return inside(model, moved, lambda there: rest(there, x, at, y, state))

    def moves(
        self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State
    ) -> dict[str, Tensor]:
        """By how much each weight moves: along the loss's gradient, gamma times as long as the weight (Frobenius).

        The gradient is that of float32, with the random numbers that the loss proper will have; buffers and what the
        objective keeps stay as they were.
        """
        weights = {name: p for name, p in model.named_parameters() if p.dim() >= 2 and p.requires_grad}
        aside = copy.copy(state)
        aside.held = {name: value.clone() for name, value in state.held.items()}
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with randomness(model), torch.autocast(x.device.type, enabled=False):
            loss = inside(model, buffers, lambda there: rest(there, x, at, y, aside))
            slopes = torch.autograd.grad(loss.value, list(weights.values()), allow_unused=True)
        return {
            name: self.gamma * weight.detach().norm() * (slope / slope.norm().clamp(min=1e-20))
            for (name, weight), slope in zip(weights.items(), slopes)
            if slope is not None
        }
