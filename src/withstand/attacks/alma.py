"""Augmented Lagrangian: weigh the distance against the margin, and let the weight find its own size."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.nearest import DUAL, length
from withstand.core.evidence import Ask, Told
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

MOMENTUM = 0.9
SQUARES = 0.99  # of the running mean of squared slopes
KEPT = 0.9  # share of the multiplier that a step keeps
PERIOD = 10  # steps between two looks at the penalty
ENOUGH = 0.95  # the penalty grows where the margin is above this share of what it was a period ago
GROWTH = 1.2
LAST = 0.01  # length of the last step as a share of the first
LEAST, MOST = 1e-6, 1e12  # of the multiplier


@attack
class ALMA:
    """The nearest violation: gradient steps on distance plus penalty, an augmented Lagrangian whose multiplier and
    penalty follow the margin row by row (Rony et al. 2021, arXiv:2011.11857).

    steps: 100 (the paper gives 100 and 1000). step: length of the first step, 0.3, as a share of the distance at which
    the boundary would lie if the model were linear. Lengths stay until a row's first violation, and fall to a hundredth
    from there to the end. The margin is divided by the gap from the best to the third best target, as the paper's
    difference of logits ratio is, but by its value alone, not its slope, so that it fits every property.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    step: Positive = 0.3

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        power = 2.0 if threat.norm == "l2" else 1.0
        x, weights = x0, _Weights.of(x0)
        squares, speed = torch.ones_like(x0), torch.zeros_like(x0)
        first = None
        for i in range(self.steps):
            told = yield Ask(x, grad=True)
            assert told.grad is not None
            slope = _away(x - x0, power) + told.grad * rowwise(weights.see(i, told), x)
            squares = SQUARES * squares + (1 - SQUARES) * slope**2
            turn = slope / (squares.sqrt() + 1e-8)
            if first is None:
                ahead = told.margin.clamp(0, torch.finfo(x.dtype).max) / length(told.grad, DUAL[threat.norm])
                first = self.step * ahead.clamp(max=1e6) / length(turn, power)
            speed = MOMENTUM * speed + turn
            pace = first * weights.pace(i, self.steps)
            x = (x - rowwise(pace, x) * speed).clamp(*threat.domain)
        yield Ask(x)


def _away(move: Tensor, power: float) -> Tensor:
    """The slope of the move's length."""
    return move.sign() if power == 1 else move / rowwise(length(move, 2), move)


@dataclass
class _Weights:
    """What each row's margin weighs against its distance: multiplier and penalty [B].

    margin: at the last look. hit: whether a violation came since. first: the step of the first violation (-1: none).
    clean: the margin at the input.
    """

    multiplier: Tensor
    penalty: Tensor
    margin: Tensor
    hit: Tensor
    first: Tensor
    clean: Tensor | None = None

    @classmethod
    def of(cls, x0: Tensor) -> "_Weights":
        ones = x0.new_ones(len(x0))
        return cls(ones, ones.clone(), ones * torch.inf, torch.zeros_like(ones).bool(), -ones)

    def see(self, step: int, told: Told) -> Tensor:
        """Take in the answer at a step; returns the factor [B] of the margin's slope."""
        scale = self._scale(told)
        margin = (told.margin / scale).nan_to_num(1.0, 1.0, 1.0).clamp(-1e3, 1e3)
        self.hit = self.hit | (told.margin <= 0)
        self.first = torch.where(self.hit & (self.first < 0), float(step), self.first)
        self.multiplier = (KEPT * self.multiplier + (1 - KEPT) * self._slope(margin)).clamp(LEAST, MOST)
        if step % PERIOD == PERIOD - 1:
            stuck = ~self.hit & (margin > ENOUGH * self.margin)
            self.penalty = torch.where(stuck, self.penalty * GROWTH, self.penalty)
            self.margin, self.hit = margin, torch.zeros_like(self.hit)
        return self._slope(margin) / scale

    def _scale(self, told: Told) -> Tensor:
        """How far the best target is ahead of the third, the property's own side counted as one; where there is but
        one target, the margin at the input."""
        assert told.targets is not None
        if self.clean is None:
            self.clean = told.margin.abs().clamp(min=1e-12)
        if told.targets.shape[1] == 1:
            return self.clean
        values = torch.cat([torch.zeros_like(told.targets[:, :1]), -told.targets], 1).nan_to_num(0.0, 0.0, 0.0)
        top = values.topk(3, dim=1).values
        return (top[:, 0] - top[:, 2]).clamp(min=1e-12)

    def _slope(self, margin: Tensor) -> Tensor:
        """The slope of the penalty function: a cubic where the property holds, and falling off beyond."""
        outside = self.multiplier * (1 + 2 * self.penalty * margin) + (self.penalty * margin) ** 2 / 2
        return torch.where(margin >= 0, outside, self.multiplier / (1 - self.penalty * margin.clamp(max=0)) ** 2)

    def pace(self, step: int, steps: int) -> Tensor:
        """What a row's steps are multiplied by."""
        share = (step - self.first) / (steps - self.first)
        return torch.where(self.first < 0, 1.0, (share * math.log(LAST)).exp())  # unlike powers, the same in any batch
