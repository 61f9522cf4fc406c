"""Walks down a loss inside a threat: with halving steps (Auto-PGD), in l1 with sparse steps, with cosine steps."""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Told
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

MOMENTUM = 0.75
PROGRESS = 0.75  # share of a window's steps that must lower the loss for the step length to stay

Walk = Generator[Ask, Told, "Point"]


@dataclass(frozen=True)
class Point:
    """Points x [B, *shape] with their loss [B] and its gradient."""

    x: Tensor
    loss: Tensor
    grad: Tensor

    @classmethod
    def of(cls, x: Tensor, told: Told) -> Self:
        """x as the runner answered it; a loss that is no number counts as infinite."""
        assert told.grad is not None
        return cls(x, told.loss.nan_to_num(torch.inf), told.grad)

    def replaced(self, rows: Tensor, by: "Point") -> "Point":
        """With the rows [B] told taken from another."""
        wide = rowwise(rows, self.x)
        return Point(
            torch.where(wide, by.x, self.x),
            torch.where(rows, by.loss, self.loss),
            torch.where(wide, by.grad, self.grad),
        )

    def better(self, other: "Point") -> "Point":
        """Per row the one of lower loss."""
        return self.replaced(other.loss < self.loss, other)


def at(ask: Ask, x: Tensor, grad: bool = True) -> Ask:
    """The ask with its loss, target, rows and stage, at other points."""
    return replace(ask, x=x, grad=grad)


def halving_walk(x0: Tensor, threat: Threat, steps: int, ask: Ask) -> Walk:
    """Momentum steps whose length halves, row by row, when progress stalls; then the row goes back to its best point
    (Croce and Hein 2020, arXiv:2003.01690).

    ask: where to start, with the loss and target to walk down on. Returns the best points; the last is not among them.
    """
    x = before = ask.x
    told = yield at(ask, x)
    here = best = Point.of(x, told)
    schedule = Halving.begin(steps, here.loss)
    for i in range(1, steps + 1):
        length = rowwise(schedule.length, x) * threat.radii(x)
        new = threat.project(x0, here.x - length * threat.steepest(here.grad, here.x))
        if i > 1:
            new = threat.project(x0, here.x + MOMENTUM * (new - here.x) + (1 - MOMENTUM) * (here.x - before))
        if i == steps:
            yield at(ask, new, grad=False)
            break
        told = yield at(ask, new)
        before, here = here.x, Point.of(new, told)
        best = best.better(here)
        halved = schedule.see(here.loss, best.loss)
        if halved is not None:
            before = torch.where(rowwise(halved, x), best.x, before)
            here = here.replaced(halved, best)
    return best


def sparse_walk(x0: Tensor, threat: Threat, steps: int, ask: Ask, share: float = 0.2) -> Walk:
    """In l1: equal steps on few coordinates, whose number follows the best point's (Croce and Hein 2021,
    arXiv:2103.01208). share: of the coordinates, at the start."""
    told = yield at(ask, ask.x)
    here = best = Point.of(ask.x, told)
    window, size = max(1, int(0.04 * steps)), x0[0].numel()
    length = torch.full_like(best.loss, 1.0)
    part, support_before = torch.full_like(length, share), torch.full_like(length, size)
    for i in range(1, steps + 1):
        step = sparse_step(threat.bar(here.grad, here.x), part)
        new = threat.project(x0, here.x - rowwise(length, x0) * threat.radii(x0) * step)
        if i == steps:
            yield at(ask, new, grad=False)
            break
        told = yield at(ask, new)
        here = Point.of(new, told)
        best = best.better(here)
        if i % window == 0:
            support = flattened(best.x != x0).sum(1).to(length)
            sparser = support < 0.95 * support_before
            length = torch.where(sparser, 1.0, (length / 1.5).clamp(min=0.1))
            part, support_before = support / (1.5 * size), support
            here = here.replaced(sparser, best)
    return best


def narrowing_walk(x0: Tensor, threat: Threat, steps: int, ask: Ask) -> Walk:
    """Sparse walks in three, two and one times the radius, for 30, 30 and 40 % of the steps, each from where the last
    was best (Croce and Hein 2021, arXiv:2103.01208)."""
    radii = threat.radii(ask.x.new_zeros(len(x0))).expand(len(x0))
    first, second = int(0.3 * steps), int(0.3 * steps)
    share = 0.2
    for factor, part in ((3, first), (2, second), (1, steps - first - second)):
        wide = threat.at(radii * factor)
        best = yield from sparse_walk(x0, wide, max(1, part), at(ask, wide.project(x0, ask.x)), share)
        ask = at(ask, best.x)
    return best


def cosine_walk(x0: Tensor, threat: Threat, steps: int, ask: Ask, first: float = 1.0, last: float = 0.002) -> Walk:
    """Momentum steps whose length falls from `first` to `last` radii along a cosine (the schedule of Liu et al. 2022,
    arXiv:2203.05154). One gradient a step, and none at the last point. Returns the best points."""
    x = before = ask.x
    best: Point | None = None
    for i in range(steps):
        told = yield at(ask, x)
        here = Point.of(x, told)
        best = here if best is None else best.better(here)
        length = last + (first - last) * (1 + math.cos(math.pi * i / steps)) / 2
        new = threat.project(x0, x - length * threat.radii(x) * threat.steepest(here.grad, x))
        if i:
            new = threat.project(x0, x + MOMENTUM * (new - x) + (1 - MOMENTUM) * (x - before))
        before, x = x, new
    yield at(ask, x, grad=False)
    assert best is not None
    return best


def diversified(x0: Tensor, threat: Threat, start: Tensor, weights: Tensor, steps: int, ask: Ask) -> Walk:
    """Steps of a full radius along a weighted sum of the target margins, which spread starts over the outputs (output
    diversified initialisation, Tashiro et al. 2020, arXiv:2003.06878). weights [B, T]. Returns where they end."""
    told = yield at(replace(ask, weights=weights), start)
    here = Point.of(start, told)
    for i in range(steps):
        x = threat.project(x0, here.x - threat.radii(here.x) * threat.steepest(here.grad, here.x))
        if i == steps - 1:
            return Point(x, here.loss, here.grad)
        told = yield at(replace(ask, weights=weights), x)
        here = Point.of(x, told)
    return here


@dataclass
class Halving:
    """The step length of every row [B], as a fraction of the radius, from 2 downwards by halves.

    At a checkpoint a row's length halves when too few steps of the window lowered its loss, or when neither its length
    nor its best loss has changed since the checkpoint before. Checkpoints come after 22 % of the steps, then ever
    sooner (3 % less each, at least 6 %).
    """

    length: Tensor
    window: int
    shrink: int
    least: int
    loss: Tensor
    best_before: Tensor
    falls: Tensor
    halved: Tensor
    since: int = 0

    @classmethod
    def begin(cls, steps: int, loss: Tensor) -> Self:
        """From the losses [B] at the start."""
        window, shrink, least = (max(1, int(part * steps)) for part in (0.22, 0.03, 0.06))
        ones = torch.ones_like(loss)
        return cls(2 * ones, window, shrink, least, loss, loss, torch.zeros_like(ones), ones.bool())

    def see(self, loss: Tensor, best: Tensor) -> Tensor | None:
        """Take in the losses after a step; at a checkpoint, say which rows halve and must go back to their best."""
        self.falls += loss < self.loss
        self.loss = loss
        self.since += 1
        if self.since < self.window:
            return None
        stuck = self.falls <= PROGRESS * self.window
        still = ~self.halved & (best >= self.best_before)
        self.halved = stuck | still
        self.length = torch.where(self.halved, self.length / 2, self.length)
        self.loss = torch.where(self.halved, best, loss)
        self.best_before, self.falls = best, torch.zeros_like(self.falls)
        self.window, self.since = max(self.window - self.shrink, self.least), 0
        return self.halved


def sparse_step(grad: Tensor, share: Tensor) -> Tensor:
    """Equal signed steps that add up to 1 on the largest `share` [B] of each row's coordinates, at least one."""
    flat = flattened(grad)
    size = flat.abs()
    count = (share * flat.shape[1]).long().clamp(1, flat.shape[1])
    least = size.sort(1, descending=True).values.gather(1, count[:, None] - 1)
    step = flat.sign() * (size >= least)
    return (step / step.abs().sum(1, keepdim=True).clamp(min=1)).reshape(grad.shape)
