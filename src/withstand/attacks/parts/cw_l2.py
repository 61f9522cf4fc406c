"""Carlini and Wagner's attack in l2."""

import math

import torch
from torch import Tensor

from withstand.attacks.parts.nearest import Best
from withstand.attacks.parts.penalty import Rounds, Scale, aim, hinge
from withstand.attacks.parts.squash import Squash
from withstand.core.evidence import Ask
from withstand.core.runner import Search
from withstand.core.threat import Threat, rowwise, vector_norm

GAIN = 0.999
"""A round that brings the violation no nearer than this share of its distance is a row's last."""


def search(x0: Tensor, threat: Threat, steps: int, rounds: int, rate: float) -> Search:
    """One ask a step of the longest row."""
    target = yield from aim(x0, threat)
    told = yield Ask(x0, grad=True, target=target)
    scale = Scale.of(told)
    walk = Rounds(Squash(threat, x0, scale.l2), x0, steps, rate)
    best = Best(threat, x0)
    weight, low, high = 2 * scale.weight, torch.zeros_like(scale.l2), torch.full_like(scale.l2, math.inf)
    done, before = torch.zeros_like(scale.l2), best.distance
    rows = told.live
    while bool(rows.any()):
        x, slope = walk.x()
        told = yield Ask(x, grad=True, target=target, rows=rows)
        best.see(x, told.margin)
        penalty, push = hinge(told)
        loss = vector_norm(x - x0, 2) ** 2 + weight * penalty
        over = rows & walk.step(loss, (2 * (x - x0) + rowwise(weight, x) * push) * slope)
        done = done + over
        hit = best.distance < before
        high = torch.where(over & hit, torch.minimum(high, weight), high)
        low = torch.where(over & ~hit, weight, low)
        weight = torch.where(over, torch.where(high < math.inf, (low + high) / 2, 10 * weight), weight)
        settled = best.found & (best.distance > GAIN * before)
        rows = rows & told.live & ~(over & (settled | (done >= rounds)))
        before = torch.where(over, best.distance, before)
        walk.begin(over, torch.where(rowwise(best.found, x), best.x, x), 0.1)
