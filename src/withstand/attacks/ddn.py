"""Decoupling direction and norm: walk on a sphere whose radius shrinks inside the violation and grows outside."""

from typing import ClassVar

import torch

from withstand.attacks.parts.nearest import cosine, length, width
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

LAST = 0.01  # length of the last step


@attack
class DDN:
    """The nearest violation in l2: steps along the gradient, each put on a sphere around the input that shrinks after a
    violation and grows otherwise (Rony et al. 2019, arXiv:1811.09600).

    steps: 100, as in the paper (it also gives 300 and 1000). radius: of the first sphere, 1; gamma: the share by which
    it shrinks or grows, 0.05; step: length of the first step, 1, which falls to 0.01. Lengths are for images in
    [0, 1] and scale with the width of the domain. loss: smooth (the
    cross-entropy of the paper where the property has one) or margin.
    Unlike the released code, points are not rounded to 256 levels, save where the threat itself is quantised (@u8).
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    radius: Positive = 1.0
    gamma: Positive = 0.05
    step: Positive = 1.0
    loss: Loss = "smooth"

    def search(self, x0: torch.Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        scale, x = width(threat), x0
        radius = x0.new_full((len(x0),), self.radius * scale)
        for i in range(self.steps):
            told = yield Ask(x, grad=True, loss=self.loss)
            assert told.grad is not None
            radius = resized(radius, told.margin, self.gamma)
            x = walked(threat, x0, x, told.grad, pace(self.step, i, self.steps) * scale, radius)
        yield Ask(x, loss=self.loss)


def pace(first: float, step: int, steps: int) -> float:
    """The length of a step, counted from 0, in a domain of width 1."""
    return cosine(first, LAST, step, steps)


def resized(radius: torch.Tensor, margin: torch.Tensor, gamma: float) -> torch.Tensor:
    """The radii [B] of the next spheres: smaller by a share of gamma where the margins [B] are lost, else larger."""
    return radius * torch.where(margin <= 0, 1 - gamma, 1 + gamma)


def walked(
    threat: Threat, x0: torch.Tensor, x: torch.Tensor, grad: torch.Tensor, pace: float, radius: torch.Tensor
) -> torch.Tensor:
    """Points x [B, *shape] after a step of length `pace` against a gradient, put on spheres around x0 of these radii
    [B], and into the domain."""
    move = x - pace * threat.steepest(grad) - x0
    return (x0 + move * rowwise(radius / length(move, 2), move)).clamp(*threat.domain)
