"""Adversarial training at the price of plain training: one backward pass moves weights and points."""

import torch
from torch import Tensor, nn

from withstand.core.registry import Count, Positive
from withstand.core.threat import Threat
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.objectives.pgd import mixed
from withstand.hardening.state import State

HELD = "free.change"


@objective
class Free(Objective):
    """Cross-entropy at points that the training's own backward passes move: "free" adversarial training (Shafahi et al.
    2019, arXiv:1904.12843).

    Each batch is shown `replays` times, 8 as in the paper, with an optimiser's step each time; the backward pass of
    each showing also moves the points, by `step` radii along the gradient (1 as in the paper). The changes stay where
    they are from batch to batch, row by row, so that a row starts from the change of another image. Train for a
    `replays`-th of the epochs.
    """

    coupled = True
    natural_at_zero = True

    replays: Count = 8  # type: ignore[assignment]
    step: Positive = 1.0

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The inputs with the changes that the last backward pass left, inside threat and domain."""
        threat = state.now
        if threat.radius == 0:
            return x
        held = state.held.get(HELD)
        change = torch.zeros_like(x, memory_format=torch.contiguous_format)
        if held is not None and held.shape[1:] == x.shape[1:]:
            rows = min(len(x), len(held))
            change[:rows] = held[:rows].to(x)
        return threat.project(x, x + change).detach()

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        if at is x or not torch.is_grad_enabled():
            return mixed(model, x, at, y, 0.0)
        at, start, threat = at.detach().requires_grad_(), x.detach(), state.now
        at.register_hook(lambda grad: self._keep(start, at.detach(), grad, threat, state))
        return mixed(model, x, at, y, 0.0)

    def _keep(self, x: Tensor, at: Tensor, grad: Tensor, threat: Threat, state: State) -> None:
        """Move the points up the gradient and keep how far they are from x; a gradient that is not finite moves none.

        Of a batch smaller than what is kept, the other rows keep their changes."""
        way = threat.steepest(-grad, at).nan_to_num(0.0)
        change = threat.project(x, at - self.step * threat.radii(at) * way) - x
        held = state.held.get(HELD)
        if held is not None and held.shape[1:] == x.shape[1:] and len(held) > len(x):
            change = torch.cat([change, held[len(x) :].to(change)])
        state.held[HELD] = change
