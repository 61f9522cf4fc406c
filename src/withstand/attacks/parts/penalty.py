"""Descent on a distance plus a penalty on the margin, each row in its own time: what the three attacks of Carlini and
Wagner (2017, arXiv:1608.04644) share."""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.attacks.parts.hyperplane import onto
from withstand.attacks.parts.nearest import length
from withstand.attacks.parts.probing import Adam
from withstand.attacks.parts.squash import Squash
from withstand.attacks.parts.targeting import by_margin
from withstand.core.evidence import Ask, Told
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

PATIENCE = 10
"""Steps without a better loss after which a row's steps shrink."""

SHRINK = 0.3
"""What is left of a row's step length then."""

LEAST = 0.01
"""The step length, as a share of the first, below which a row's round ends."""

BETTER = 0.999
"""A loss counts as better when it is less than this share of the best before."""


def aim(x0: Tensor, threat: Threat, among: int = 20) -> Generator[Ask, Told, Tensor]:
    """The target [B] that is nearest if the model were linear, within the domain, among those of smallest margin."""
    told = yield Ask(x0)
    near = by_margin(told, among)
    told = yield Ask(x0, grad=True, target=near)
    assert told.grad is not None
    distances = []
    for fall, slope in zip(told.loss.nan_to_num(math.inf).unbind(1), flattened(told.grad, 2).unbind(1)):
        move = onto(threat.norm, flattened(x0), slope, fall, threat.domain)
        short = (slope * move).sum(1) > -0.999 * fall
        distances.append(threat.distance(x0, x0 + move.reshape(x0.shape)).masked_fill(short, math.inf))
    return near.gather(1, torch.stack(distances, 1).argmin(1, keepdim=True)).squeeze(1)


def hinge(told: Told) -> tuple[Tensor, Tensor]:
    """max(margin, 0) [B] and its slope [B, *shape]."""
    assert told.grad is not None
    held = told.margin > 0
    return told.loss.clamp(min=0), told.grad * rowwise(held, told.grad)


@dataclass(frozen=True)
class Scale:
    """What the clean answer foretells, per row [B], if the model were linear: the distance in l2 and linf of the
    nearest violation, and the least weight of the hinge that reaches it against the squared l2 distance."""

    l2: Tensor
    linf: Tensor
    weight: Tensor

    @classmethod
    def of(cls, told: Told) -> "Scale":
        assert told.grad is not None
        margin = told.loss.nan_to_num(1.0, 1.0, 1.0).clamp(min=1e-12)
        two, one = length(told.grad, 2).clamp(min=1e-12), length(told.grad, 1).clamp(min=1e-12)
        return cls(margin / two, margin / one, 2 * margin / two**2)


class Rounds:
    """The walk of every row: its variable w, Adam's state, the age of its round, its step length and best loss."""

    def __init__(self, squash: Squash, x: Tensor, steps: int, rate: float) -> None:
        self.squash, self.steps, self.rate = squash, steps, rate
        self.w = squash.variable(x)
        self.adam = Adam(self.w)
        self.pace = x.new_full((len(x),), rate)
        self.age = torch.zeros_like(self.pace)
        self.best, self.window = (torch.full_like(self.pace, math.inf) for _ in range(2))

    def x(self) -> tuple[Tensor, Tensor]:
        """The points and their slopes dx/dw."""
        return self.squash.point(self.w)

    def step(self, loss: Tensor, grad: Tensor) -> Tensor:
        """Step down the gradient [B, *shape] of the loss [B] in w; says which rows' rounds are over, bool [B]."""
        self.w = self.squash.stop(self.w - rowwise(self.pace, self.w) * self.adam.step(grad))
        self.age = self.age + 1
        self.window = torch.minimum(self.window, loss.nan_to_num(math.inf))
        due = self.age % PATIENCE == 0
        stuck = due & ~(self.window < BETTER * self.best)
        self.best = torch.where(due, torch.minimum(self.best, self.window), self.best)
        self.window = self.window.masked_fill(due, math.inf)
        self.pace = torch.where(stuck, SHRINK * self.pace, self.pace)
        return (self.pace < LEAST * self.rate) | (self.age >= self.steps)

    def begin(self, rows: Tensor, x: Tensor, pace: float = 1.0) -> None:
        """A new round of rows bool [B] from x, with steps of `pace` times the first length."""
        self.w = torch.where(rowwise(rows, x), self.squash.variable(x), self.w)
        self.adam.forget(rows)
        self.age = self.age.masked_fill(rows, 0.0)
        self.pace = self.pace.masked_fill(rows, pace * self.rate)
        self.best, self.window = (t.masked_fill(rows, math.inf) for t in (self.best, self.window))
