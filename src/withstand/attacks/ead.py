"""The elastic-net attack."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.nearest import Best, length, tighten
from withstand.attacks.parts.penalty import aim, hinge
from withstand.core.evidence import Ask
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

PATIENCE = 0.1
"""Share of the steps without a better loss after which a row ends its round."""

BETTER = 0.9999
"""A loss counts as better when it is less than this share of the best before."""

GAIN = 0.999
"""A search that brings the violation no nearer than this share of its distance was in vain; two end a row."""


@attack
class EAD:
    """The least squared l2 distance plus beta times the l1 distance plus a weight times the hinge of the margin, by
    proximal gradient steps with momentum (FISTA), with a search for the weight of every sample (Chen et al. 2018,
    arXiv:1709.04114). Under `--property not-class:CLASS` it aims at that class,
    else at the one that is nearest if the model were linear.

    steps: of one weight at most, 300. searches: weights tried at most, 9, as in the paper; each goes on from the
    nearest violation, and a row ends when two bring none nearer. beta: 10, and rate: length of the first step, 0.003,
    found the nearest violations of a network for digits; the released code's threshold of 0.01 at steps of 0.01
    amounts to a beta of 1. Lengths are shares of the domain's width. What is kept is the violation nearest in l1 (the
    paper's L1 rule; its EN rule would give up l1 distance for l2).
    """

    norms: ClassVar[tuple[str, ...]] = ("l1",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 300
    searches: Count = 9
    beta: Positive = 10.0
    rate: Positive = 0.003

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and those of the last bisection."""
        target = yield from aim(x0, threat)
        told = yield Ask(x0, grad=True, target=target)
        assert told.grad is not None
        clean, steepest = told.loss, length(told.grad, math.inf)
        low, high = threat.domain
        unit = clean / steepest if math.isinf(high - low) else torch.full_like(steepest, high - low)
        unit = unit.nan_to_num(1.0, 1.0, 1.0).clamp(min=1e-12)
        weight = 2 * (self.beta + 1) / (steepest * unit).clamp(min=1e-12)
        least, most = torch.zeros_like(weight), torch.full_like(weight, math.inf)
        best, x = Best(threat, x0), x0
        rows, idle = told.live, torch.zeros_like(told.live, dtype=torch.long)
        for _ in range(self.searches):
            before = best.distance
            yield from self._descend(x, weight, unit, best, target, rows)
            idle = torch.where(best.distance > GAIN * before, idle + best.found, 0)
            rows = rows & (idle < 2)
            hit = best.distance < before
            most, least = torch.where(hit, weight, most), torch.where(hit, least, weight)
            weight = torch.where(most < math.inf, (least + most) / 2, 4 * weight)
            x = best.x
        yield from tighten(best, clean, 5)

    def _descend(self, x: Tensor, weight: Tensor, unit: Tensor, best: Best, target: Tensor, rows: Tensor) -> Search:
        """One round of steps of rows bool [B] from x."""
        x0, wide = best.x0, rowwise(unit, x)
        lowest = torch.full_like(weight, math.inf)
        window, y, here = lowest, x, x
        patience = max(1, int(PATIENCE * self.steps))
        for i in range(self.steps):
            if not bool(rows.any()):
                return
            told = yield Ask(y, grad=True, target=target, rows=rows)
            best.see(y, told.margin)
            penalty, push = hinge(told)
            delta = (y - x0) / wide
            loss = weight * penalty + flattened(delta * delta + self.beta * delta.abs()).sum(1)
            window = torch.minimum(window, loss.nan_to_num(math.inf))
            if (i + 1) % patience == 0:
                rows = rows & (window < BETTER * lowest)
                lowest, window = torch.minimum(lowest, window), torch.full_like(lowest, math.inf)
            rows = rows & told.live
            rate = self.rate * math.sqrt(1 - i / self.steps)
            moved = delta - rate * (2 * delta + rowwise(weight, x) * push * wide)
            moved = moved.sign() * (moved.abs() - rate * self.beta).clamp(min=0)
            new = (x0 + moved * wide).clamp(*best.threat.domain)
            y, here = (new + i / (i + 3) * (new - here)).clamp(*best.threat.domain), new
