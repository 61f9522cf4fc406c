"""What searches for the nearest violation share: the best point so far, schedules, and lengths without a zero."""

import math

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Told
from withstand.core.runner import Search
from withstand.core.threat import Threat, rowwise, vector_norm

DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
"""The norm of a gradient that says how fast a linear function can fall in each norm."""


class Best:
    """The violation nearest to x0 [B, *shape] among the points seen, per row: x and its distance [B] in float64."""

    def __init__(self, threat: Threat, x0: Tensor) -> None:
        self.threat, self.x0, self.x = threat, x0, x0
        self.distance = x0.new_full((len(x0),), math.inf, dtype=torch.float64)

    def see(self, x: Tensor, margin: Tensor) -> Tensor:
        """Take over the points x that violate the property (margin [B] <= 0) nearer to x0 than any before. Returns the
        points' distances [B]."""
        distance = self.threat.distance(self.x0, x)
        better = (margin <= 0) & (distance < self.distance)
        self.distance = torch.where(better, distance, self.distance)
        self.x = torch.where(rowwise(better, x), x, self.x)
        return distance

    @property
    def found(self) -> Tensor:
        """The rows [B] with a violation."""
        return self.distance < math.inf


def tighten(best: Best, clean: Tensor, steps: int) -> Search:
    """Move the nearest violations towards the input along a straight line: `steps` asks by the rule of false position,
    from the margins at the input (`clean` [B]) and, asked first, at the violations."""
    told = yield Ask(best.x, rows=best.found)
    far, outer, inner = told.margin.clamp(max=0), torch.ones_like(clean), torch.zeros_like(clean)
    x0, near = best.x0, clean
    move = best.x - x0
    before = torch.zeros_like(best.found)
    for _ in range(steps):
        share = inner + (outer - inner) * (near / (near - far).clamp(min=torch.finfo(near.dtype).tiny)).clamp(0, 1)
        x = (x0 + rowwise(share, x0) * move).clamp(*best.threat.domain)
        told = yield Ask(x, rows=best.found)
        best.see(x, told.margin)
        hit = told.margin <= 0
        outer, inner = torch.where(hit, share, outer), torch.where(hit, inner, share)
        idle = torch.where(before == hit, 0.5, 1.0).to(near)  # an end that stayed twice counts half (Illinois rule)
        far, near = torch.where(hit, told.margin, far * idle), torch.where(hit, near * idle, told.margin)
        before = hit


def nearest_plane(told: Told, norm: str) -> tuple[Tensor, Tensor]:
    """Value [B] and slope [B, *shape] of the one of several targets' margins [B, T] that is nearest to zero if all are
    linear."""
    assert told.grad is not None
    size = length(told.grad.flatten(0, 1), DUAL[norm]).reshape(told.loss.shape)
    near = (told.loss.abs() / size).nan_to_num(torch.inf).argmin(1)
    rows = torch.arange(len(near), device=near.device)
    return told.loss[rows, near], told.grad[rows, near]


def width(threat: Threat) -> float:
    """The width of the domain, by which steps given for images in [0, 1] are scaled; 1 where it has no end."""
    low, high = threat.domain
    return high - low if math.isfinite(high - low) else 1.0


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 to `last` at `steps` along half a cosine wave."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def length(x: Tensor, p: float) -> Tensor:
    """The norm of every row [B], never 0, so that one may divide by it."""
    return vector_norm(x, p).clamp(min=torch.finfo(x.dtype).tiny)
