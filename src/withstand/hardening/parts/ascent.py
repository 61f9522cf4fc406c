"""The inner maximisation: points of a threat where a loss is large, by projected steps along its gradient."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from withstand.core.rng import RowRandom
from withstand.core.threat import Threat
from withstand.hardening.parts.modes import watching
from withstand.hardening.state import State

Start = Literal["random", "noise", "clean"]
"""Where a walk begins: at a random point of the threat, a thousandth of noise beside x (where losses have no gradient
at x itself), or at x."""

NOISE = 1e-3


def ascend(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    state: State,
    *,
    steps: int,
    step: float,
    start: Start = "random",
    purpose: str = "ascent",
) -> Tensor:
    """Points of the threat around x [B, *shape] where `loss`, from the model's outputs [B, K] to a number a row [B], is
    large.

    step: length of a step as a share of the radius in force. Of a radius of zero, x itself. Gradients are taken by the
    points alone, in float32 whatever autocast is around; the model's mode while looking is the state's `attack_mode`.
    """
    threat = state.now
    if threat.radius == 0:
        return x
    with watching(model, state.attack_mode), torch.autocast(x.device.type, enabled=False):
        x = x.detach().clone().float()
        at = begin(x, threat, state.rng(x, purpose), start)
        for _ in range(steps):
            at = climb(lambda point: loss(model(point)).sum(), x, at, threat, step)
        return at.detach()


def answers(model: nn.Module, x: Tensor, state: State) -> Tensor:
    """The model's outputs at x as attacks see them, without a gradient [B, K]."""
    with watching(model, state.attack_mode), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        return model(x.detach().clone().float())


def begin(x: Tensor, threat: Threat, rng: RowRandom, start: Start) -> Tensor:
    """The first points of walks around x [B, *shape]."""
    if start == "random":
        return threat.sample(x, rng)
    if start == "noise":
        return threat.project(x, x + NOISE * rng.normal(x.shape[1:], x.dtype))
    return x


def climb(value: Callable[[Tensor], Tensor], x: Tensor, at: Tensor, threat: Threat, step: float) -> Tensor:
    """One step up from points `at` along the gradient of a scalar `value`, and back into the threat around x."""
    at = at.detach().requires_grad_()
    (slope,) = torch.autograd.grad(value(at), at)
    with torch.no_grad():
        return threat.project(x, at - step * threat.radii(at) * threat.steepest(-slope, at))
