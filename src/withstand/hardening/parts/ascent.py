"""The inner maximisation: points of a threat where a loss is large, by projected steps along its gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.errors import InputError
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

    step: length of a step as a share of the radius in force. Of a radius of zero, x itself. Raises InputError when the
    model has no gradient.
    """
    threat = state.now
    if threat.radius == 0:
        return x
    with looking(model, x, state) as x:
        at = begin(x, threat, state.rng(x, purpose), start)
        for _ in range(steps):
            at = climb(lambda point: loss(model(point)).sum(), x, at, threat, step)
        return at.detach()


def answers(model: nn.Module, x: Tensor, state: State) -> Tensor:
    """The model's outputs at x as attacks see them, without a gradient [B, K]."""
    with looking(model, x, state) as x, torch.no_grad():
        return model(x)


@contextmanager
def looking(model: nn.Module, x: Tensor, state: State) -> Iterator[Tensor]:
    """Within it the model is looked at as attacks do (see `watching`), in float32 or finer whatever autocast is around;
    its value is a copy of x for that."""
    with watching(model, state.attack_mode), torch.autocast(x.device.type, enabled=False):
        yield x.detach().clone().to(torch.promote_types(x.dtype, torch.float32))


def cross_entropy(y: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss to climb for classes y [B]: from outputs [B, K] to the cross-entropy of every row [B]."""
    return lambda outputs: F.cross_entropy(outputs, y.clone(), reduction="none")  # a clone may enter a gradient


def slope(value: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a scalar `value` at points `at`, of their shape; parameters get none. Raises InputError when
    there is none."""
    at = at.detach().requires_grad_()
    height = value(at)
    if not height.requires_grad:
        raise InputError("The model's outputs have no gradient by its inputs; training against attacks needs one.")
    return torch.autograd.grad(height, at)[0]


def begin(x: Tensor, threat: Threat, rng: RowRandom, start: Start) -> Tensor:
    """The first points of walks around x [B, *shape]."""
    if start == "random":
        return threat.sample(x, rng)
    if start == "noise":
        return threat.project(x, x + NOISE * rng.normal(x.shape[1:], x.dtype))
    return x


def climb(value: Callable[[Tensor], Tensor], x: Tensor, at: Tensor, threat: Threat, step: float) -> Tensor:
    """One step up from points `at` along the gradient of a scalar `value`, and back into the threat around x."""
    grad = slope(value, at)
    with torch.no_grad():
        return threat.project(x, at - step * threat.radii(at) * threat.steepest(-grad, at))
