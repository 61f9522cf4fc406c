"""Carlini and Wagner's attack in linf."""

import math

import torch
from torch import Tensor

from withstand.attacks.parts.nearest import Best, length
from withstand.attacks.parts.penalty import Rounds, Scale, aim, hinge
from withstand.attacks.parts.squash import Squash
from withstand.core.evidence import Ask
from withstand.core.runner import Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

FIRST = 1.5
"""The first bound on the change, as a multiple of the distance that a linear model would have."""

SHRINK = 0.8
"""The next bound, as a share of the nearest violation's distance, while none has failed."""

AGAIN = 0.3
"""Length of the first steps of a later round, as a share of those of the first."""

LIGHT = 0.5
"""The first weight of the hinge, as a share of that which lets a coordinate leave its bound."""

CLOSE = 0.995
"""A row ends when a bound of this share of its nearest violation's distance has failed."""


def search(x0: Tensor, threat: Threat, steps: int, rounds: int, rate: float) -> Search:
    """One ask a step of the longest row."""
    target = yield from aim(x0, threat)
    told = yield Ask(x0, grad=True, target=target)
    assert told.grad is not None
    scale = Scale.of(told)
    walk = Rounds(Squash(threat, x0, scale.linf), x0, steps, rate / 2)
    best = Best(threat, x0)
    weight = LIGHT / length(told.grad, math.inf).clamp(min=1e-12)
    bound, failed = FIRST * scale.linf, torch.zeros_like(weight)
    done = torch.zeros_like(weight)
    rows = told.live
    while bool(rows.any()):
        x, slope = walk.x()
        told = yield Ask(x, grad=True, target=target, rows=rows)
        best.see(x, told.margin)
        penalty, push = hinge(told)
        delta, limit = x - x0, rowwise(bound, x)
        excess = (delta.abs() - limit).clamp(min=0)
        loss = flattened(excess).sum(1) + weight * penalty
        pull = delta.sign() * (excess > 0)
        ended = walk.step(loss, (pull + rowwise(weight, x) * push) * slope)
        distance = best.distance.to(bound)
        hit = rows & best.found & (distance <= bound)
        over = rows & (ended | hit)
        done = done + over
        missed = over & ~hit
        failed = torch.where(missed & best.found, torch.maximum(failed, bound), failed)
        weight = torch.where(missed, 2 * weight, weight)
        bound = torch.where(over & best.found, torch.maximum(SHRINK * distance, (failed + distance) / 2), bound)
        rows = rows & told.live & ~(over & ((failed > CLOSE * distance) | (done >= rounds)))
        start = torch.where(rowwise(missed & best.found, x), best.x, x)
        around = rowwise(bound.minimum(distance), x)
        walk.begin(over, torch.maximum(torch.minimum(start, x0 + around), x0 - around), AGAIN)
