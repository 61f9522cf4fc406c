"""The inner maximisation of distributional robustness: far points are not forbidden but cost their squared distance."""

from collections.abc import Callable

import torch
from torch import Tensor

from withstand.core.threat import rowwise, vector_norm

RowLoss = Callable[[Tensor], Tensor]
"""From points [B, *shape] to a number a row [B], differentiable."""


def authors_step(turn: int) -> float:
    """1, then 1 / sqrt(turn + 1): the step lengths of Sinha et al. 2018 (arXiv:1710.10571), in their code."""
    return (turn + 1) ** -0.5


def transported(
    loss: RowLoss,
    x: Tensor,
    gamma: float,
    steps: int,
    tolerance: float = 0.0,
    step: Callable[[int], float] = authors_step,
) -> Tensor:
    """Points z [B, *shape], detached, that nearly maximise loss(z) - gamma * |z - x|^2 (l2) in every row.

    A turn moves z by step(turn) * (x + grad loss(z) / (2 gamma) - z), and there are steps + 1 of them. A step of 1
    throughout is a contraction where the loss turns slower than 2 gamma, in both directions. Rows whose slope, the
    gradient of the maximised, has a length of `tolerance` or less stay.
    """
    x = x.detach()
    z = x
    for turn in range(steps + 1):
        slope = penalised_slope(loss, x, z, gamma)
        moving = vector_norm(slope, 2) > tolerance
        if not bool(moving.any()):
            break
        z = z + rowwise(moving.to(z.dtype) * (step(turn) / (2 * gamma)), z) * slope
    return z.detach()


def penalised_slope(loss: RowLoss, x: Tensor, z: Tensor, gamma: float) -> Tensor:
    """The gradient [B, *shape] of loss(z) - gamma * |z - x|^2 by z."""
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(point).sum(), point)
    return slope - 2 * gamma * (z.detach() - x)
