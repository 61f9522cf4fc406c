"""What the mean loss can become over all distributions near the data in Wasserstein distance: from both sides.

For every gamma >= 0, the mean loss under any distribution within transport cost rho of the data is at most
gamma * rho + mean of phi, with phi(x) = sup over z of loss(z) - gamma * |z - x|^2 (Sinha, Namkoong and Duchi 2018,
arXiv:1710.10571). A walk up to z gives phi from below only. Where the loss turns slower than 2 gamma everywhere, what
is maximised is strongly concave, and the slope where the walk ended bounds what is missing: then, and only then, the
number is a certificate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.shapes import flattened
from withstand.core.threat import vector_norm
from withstand.hardening.parts.penalised import RowLoss, authors_step, penalised_slope, transported

STEPS = 100
"""Of a walk, at most."""

TOLERANCE = 1e-6
"""Length of the slope at which a walk ends."""

SLACK = 1e-9
"""Outward widening of a bound, as a share of its terms: far above the rounding of float64."""


@dataclass(frozen=True)
class Surrogate:
    """One gamma on n samples, means over them.

    below: of phi as the walks reached it. above: an upper bound of it, or None where the loss may turn as fast as
    2 gamma. cost, loss: mean squared distance and mean loss at the points reached: a distribution that exists.
    """

    gamma: float
    below: float
    above: float | None
    cost: float
    loss: float


@dataclass(frozen=True)
class Bound:
    """The mean loss over distributions within transport cost `rho` (mean squared l2 distance, in the units of the
    input) of the samples.

    reached: a distribution within rho has this mean loss. certified: none has more (None: not known), at `gamma`.
    estimate: gamma * rho + phi as the walks reached it, least over gamma, and at least `reached`: no bound of anything.
    """

    rho: float
    reached: float
    estimate: float
    certified: float | None
    gamma: float | None


def surrogate(loss: RowLoss, x: Tensor, gamma: float, smooth: float | None, steps: int = STEPS) -> Surrogate:
    """The surrogate of float64 samples x [N, *shape] at one gamma > 0.

    loss: of every row, twice differentiable where smooth is given. smooth: a proven bound of the largest eigenvalue of
    its second derivative anywhere, or None.
    """
    concave = smooth is not None and 2 * gamma > smooth
    z = transported(loss, x, gamma, steps, TOLERANCE, (lambda turn: 1.0) if concave else authors_step)
    with torch.no_grad():
        start, end = loss(x), loss(z)
    cost = flattened(z - x).square().sum(1)
    better = end - gamma * cost >= start
    end, cost = torch.where(better, end, start), torch.where(better, cost, 0.0)
    below = end - gamma * cost
    above = None
    if concave:
        assert smooth is not None
        z = torch.where(better.reshape(-1, *(1,) * (x.dim() - 1)), z, x)
        missing = vector_norm(penalised_slope(loss, x, z, gamma), 2).square() / (2 * (2 * gamma - smooth))
        above = float((below + missing + SLACK * (1 + end.abs() + gamma * cost)).mean())
    return Surrogate(gamma, float(below.mean()), above, float(cost.mean()), float(end.mean()))


def default_gammas(loss: RowLoss, x: Tensor, rhos: Sequence[float], smooth: float | None) -> list[float]:
    """Gammas to try: for each rho the best one of a loss that is linear around the samples, its half and its double,
    and the least that give certificates."""
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(point).sum(), point)
    steep = float(flattened(slope).square().sum(1).mean().sqrt())
    found = {factor * steep / (2 * rho**0.5) for rho in rhos if rho > 0 for factor in (0.5, 1.0, 2.0)}
    if smooth is not None:
        found |= {factor * smooth / 2 for factor in (1.02, 1.2, 2.0)}
    return sorted(gamma for gamma in found if gamma > 0) or [1.0]


def bounds(clean: float, surrogates: Sequence[Surrogate], rhos: Sequence[float]) -> list[Bound]:
    """The bounds at each rho >= 0. clean: the mean loss of the samples themselves."""
    return [_bound(clean, surrogates, rho) for rho in rhos]


def _bound(clean: float, surrogates: Sequence[Surrogate], rho: float) -> Bound:
    """What is reached moves as much of the weight of the samples as rho allows."""
    shares = [(one, min(1.0, rho / one.cost) if one.cost > 0 else 1.0) for one in surrogates]
    reached = max([clean, *(clean + share * (one.loss - clean) for one, share in shares)])
    estimate = max(reached, min(one.gamma * rho + one.below for one in surrogates))
    proven = [(one.gamma * rho + one.above, one.gamma) for one in surrogates if one.above is not None]
    certified, gamma = min(proven, default=(None, None))
    return Bound(rho, reached, estimate, certified, gamma)


def sharpest(loss: RowLoss, x: Tensor, turns: int = 20) -> Tensor:
    """An estimate [N] of the largest eigenvalue, in size, of the loss's second derivative at each row of x, by power
    iteration: never more than the truth, and a statement about these points only."""
    rng = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)
    size = x.new_zeros(len(x))
    for _ in range(turns):
        v = v / vector_norm(v, 2).clamp(min=1e-300).reshape(-1, *(1,) * (x.dim() - 1))
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(point).sum(), point, create_graph=True)
            if not slope.requires_grad:
                return size
            v = torch.autograd.grad((slope * v).sum(), point)[0]
        size = vector_norm(v, 2)
    return size
