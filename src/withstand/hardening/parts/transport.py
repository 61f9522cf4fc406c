"""Optimal transport between two batches of equal weights: entropic plans (Sinkhorn), and nearly exact ones (IPOT)."""

import math

import torch
from torch import Tensor


def cosine_cost(a: Tensor, b: Tensor) -> Tensor:
    """One minus the cosine of every pair of rows of a [n, K] and b [m, K]: [n, m], from 0 (one direction) to 2."""
    a, b = (torch.nn.functional.normalize(rows.float(), dim=1, eps=1e-12) for rows in (a, b))
    return (1 - a @ b.T).clamp(min=0)


def sinkhorn(cost: Tensor, reg: float, iterations: int = 100, tolerance: float = 1e-3) -> Tensor:
    """The plan [n, m] of the least sum(plan * cost) - reg * entropy(plan) that moves n equal weights to m equal ones.

    cost [n, m]; reg: in the units of the cost. Turns of Sinkhorn's algorithm (Cuturi 2013, arXiv:1306.0895) on
    logarithms, so that no reg is too small for the numbers; they stop when the rows' sums are off by `tolerance` in
    all (of a mass of 1), or after `iterations`. The columns' sums are exact. Differentiable in the cost.
    """
    rows, columns = _weights(cost)
    log = -cost / reg
    u = rows - torch.logsumexp(log, 1)
    for _ in range(iterations):
        v = columns - torch.logsumexp(log + u[:, None], 0)
        sums = torch.logsumexp(log + v, 1)
        error = ((u + sums).detach().exp() - math.exp(rows)).abs().sum()
        if float(error) <= tolerance:
            return torch.exp(log + u[:, None] + v)
        u = rows - sums
    return torch.exp(log + u[:, None] + columns - torch.logsumexp(log + u[:, None], 0))


def ipot(cost: Tensor, beta: float = 1.0, iterations: int = 50) -> Tensor:
    """A plan [n, m] whose cost nears that of the best plan as iterations grow, whatever beta.

    The inexact proximal point method with one turn a step (Xie et al. 2019, arXiv:1802.04307), on logarithms. beta: the
    weight of nearness to the last plan, in the units of the cost. Differentiable in the cost.
    """
    rows, columns = _weights(cost)
    log = cost.new_zeros(cost.shape)
    v = cost.new_full((cost.shape[1],), columns)
    for _ in range(iterations):
        log = log - cost / beta
        u = rows - torch.logsumexp(log + v, 1)
        v = columns - torch.logsumexp(log + u[:, None], 0)
        log = log + u[:, None] + v
    return torch.exp(log)


def transport_cost(cost: Tensor, plan: Tensor) -> Tensor:
    """What a plan costs: a scalar."""
    return (plan * cost).sum()


def _weights(cost: Tensor) -> tuple[float, float]:
    """Logarithms of the weight of a row and of a column."""
    return -math.log(cost.shape[0]), -math.log(cost.shape[1])
