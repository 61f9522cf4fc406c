"""Auto-PGD: projected gradient descent that chooses its own step length."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Loss, Told
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

MOMENTUM = 0.75
PROGRESS = 0.75  # share of a window's steps that must lower the loss for the step length to stay


@attack
class APGD:
    """Momentum steps whose length halves, row by row, when progress stalls; then the row goes back to its best point
    (Croce and Hein 2020, arXiv:2003.01690). In l1, steps on few coordinates whose number adapts (Croce and Hein 2021,
    arXiv:2103.01208).

    steps: 100, as in AutoAttack. loss: margin, ce or dlr (AutoAttack runs ce and dlr; margin fits every property).
    restarts: random starts. Unlike the released code, the first window compares with the loss at the start, and
    momentum ends when a row goes back to its best point.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.GRADIENT

    steps: Count = 100
    loss: Loss = "margin"
    restarts: Count = 1

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask for the start and one a step, for every restart."""
        walk = self._sparse if threat.norm == "l1" else self._momentum
        for _ in range(self.restarts):
            yield from walk(x0, threat, rng)

    def _momentum(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        x = before = threat.sample(x0, rng)
        told = yield Ask(x, grad=True, loss=self.loss)
        here = best = _Point.of(x, told)
        schedule = Halving.begin(self.steps, here.loss)
        for i in range(1, self.steps + 1):
            length = rowwise(schedule.length, x) * threat.radii(x)
            new = threat.project(x0, here.x - length * threat.steepest(here.grad, here.x))
            if i > 1:
                new = threat.project(x0, here.x + MOMENTUM * (new - here.x) + (1 - MOMENTUM) * (here.x - before))
            if i == self.steps:
                yield Ask(new, loss=self.loss)
                return
            told = yield Ask(new, grad=True, loss=self.loss)
            before, here = here.x, _Point.of(new, told)
            best = best.better(here)
            halved = schedule.see(here.loss, best.loss)
            if halved is not None:
                before = torch.where(rowwise(halved, x), best.x, before)
                here = here.replaced(halved, best)

    def _sparse(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        x = threat.project(x0, x0 + rng.normal(x0.shape[1:], x0.dtype))
        told = yield Ask(x, grad=True, loss=self.loss)
        here = best = _Point.of(x, told)
        window, size = max(1, int(0.04 * self.steps)), x0[0].numel()
        length = torch.full_like(best.loss, 1.0)
        share, support_before = torch.full_like(length, 0.2), torch.full_like(length, size)
        for i in range(1, self.steps + 1):
            step = sparse_step(threat.bar(here.grad, here.x), share)
            new = threat.project(x0, here.x - rowwise(length, x) * threat.radii(x) * step)
            if i == self.steps:
                yield Ask(new, loss=self.loss)
                return
            told = yield Ask(new, grad=True, loss=self.loss)
            here = _Point.of(new, told)
            best = best.better(here)
            if i % window == 0:
                support = (best.x != x0).flatten(1).sum(1).to(length)
                sparser = support < 0.95 * support_before
                length = torch.where(sparser, 1.0, (length / 1.5).clamp(min=0.1))
                share, support_before = support / (1.5 * size), support
                here = here.replaced(sparser, best)


@dataclass(frozen=True)
class _Point:
    """Points x [B, *shape] with their loss [B] and its gradient."""

    x: Tensor
    loss: Tensor
    grad: Tensor

    @classmethod
    def of(cls, x: Tensor, told: Told) -> Self:
        assert told.grad is not None
        return cls(x, told.loss.nan_to_num(torch.inf), told.grad)

    def replaced(self, rows: Tensor, by: "_Point") -> "_Point":
        """With the rows [B] told taken from another."""
        wide = rowwise(rows, self.x)
        return _Point(
            torch.where(wide, by.x, self.x),
            torch.where(rows, by.loss, self.loss),
            torch.where(wide, by.grad, self.grad),
        )

    def better(self, other: "_Point") -> "_Point":
        """Per row the one of lower loss."""
        return self.replaced(other.loss < self.loss, other)


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
    flat = grad.flatten(1)
    size = flat.abs()
    count = (share * flat.shape[1]).long().clamp(1, flat.shape[1])
    least = size.sort(1, descending=True).values.gather(1, count[:, None] - 1)
    step = flat.sign() * (size >= least)
    return (step / step.abs().sum(1, keepdim=True).clamp(min=1)).reshape(grad.shape)
