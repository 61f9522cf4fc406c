"""Carlini and Wagner's attack in l0."""

import torch
from torch import Tensor

from withstand.attacks.parts.penalty import Rounds, Scale, hinge
from withstand.attacks.parts.squash import Squash
from withstand.core.evidence import Ask
from withstand.core.runner import Search
from withstand.core.sparse import L0
from withstand.core.threat import Threat, rowwise

HEAVY = 20.0
"""The weight of the hinge, as a multiple of what a linear model needs with all its pixels: few pixels need more."""

DROP = 0.3
"""Share of the pixels in use that are given up at once, until that fails."""


def search(x0: Tensor, threat: Threat, steps: int, rounds: int, rate: float) -> Search:
    """One ask a step of the longest row. A row ends when `rounds` sets of pixels in a row have failed."""
    assert isinstance(threat, L0)
    told = yield Ask(x0, grad=True)
    scale = Scale.of(told)
    walk = Rounds(Squash(threat, x0, scale.l2), x0, steps, rate)
    weight = HEAVY * scale.weight
    pixels = _Pixels(x0, threat)
    failed = torch.zeros_like(weight)
    rows = told.live
    while bool(rows.any()):
        moved, slope = walk.x()
        mask = pixels.mask()
        x = torch.where(mask, moved, x0)
        told = yield Ask(x, grad=True, rows=rows)
        assert told.grad is not None
        penalty, push = hinge(told)
        delta = x - x0
        loss = (delta**2).flatten(1).sum(1) + weight * penalty
        ended = walk.step(loss, (2 * delta + rowwise(weight, x) * push) * slope * mask)
        hit = rows & (told.margin <= 0)
        missed = rows & ended & ~hit
        failed = torch.where(hit, 0, failed + missed)
        pixels.keep(hit, x, delta * told.grad)
        pixels.restore(missed)
        left = pixels.drop(hit | missed)
        rows = rows & told.live & ~(missed & (failed >= rounds)) & ~((hit | missed) & ~left)
        walk.begin(hit | missed, pixels.held)


class _Pixels:
    """Which pixels [B, N] of every row may change; those that its last violation `held` changed, and what each is
    worth; how many are given up at once."""

    def __init__(self, x0: Tensor, threat: L0) -> None:
        self.x0, self.threat, self.held = x0, threat, x0
        self.allowed = torch.ones_like(self._each(x0), dtype=torch.bool)
        self.used, self.worth = self.allowed, self._each(x0) * 0
        self.share = x0.new_full((len(x0),), DROP)

    def _each(self, x: Tensor) -> Tensor:
        """The sum of the absolute values of every pixel's channels: [B, N]."""
        return self.threat.maps(x).abs().sum(1).flatten(1)

    def mask(self) -> Tensor:
        """`allowed` for every number of an input, [B, *shape]."""
        maps = self.threat.maps(self.x0)
        spread = self.allowed.reshape(len(maps), 1, *maps.shape[2:]).expand(maps.shape)
        return self.threat.unmapped(spread, self.x0)

    def keep(self, hit: Tensor, x: Tensor, gain: Tensor) -> None:
        """Remember violations x of rows `hit`, and what each number of them is worth."""
        self.held = torch.where(rowwise(hit, x), x, self.held)
        self.used = torch.where(hit[:, None], self._each(x - self.x0) > 0, self.used)
        self.worth = torch.where(hit[:, None], self._each(gain), self.worth)

    def restore(self, missed: Tensor) -> None:
        """Rows whose pixels failed give up fewer next time; the one pixel that alone failed is not tried again."""
        lost = self.used & ~self.allowed & missed[:, None]
        alone = lost & (lost.sum(1, keepdim=True) == 1)
        self.worth = self.worth.masked_fill(alone, torch.inf)
        self.share = torch.where(missed, self.share / 2, self.share)

    def drop(self, rows: Tensor) -> Tensor:
        """Give up the pixels of least worth that `rows` use; says where some are left to give up."""
        count = (self.share * self.used.sum(1)).floor().clamp(min=1)
        order = self.worth.masked_fill(~self.used, torch.inf).argsort(dim=1, stable=True)
        place = torch.arange(order.shape[1], device=order.device)
        rank = torch.zeros_like(order).scatter(1, order, place.expand_as(order))
        given = self.used & (rank < count[:, None]) & (self.worth < torch.inf)
        self.allowed = torch.where(rows[:, None], self.used & ~given, self.allowed)
        return given.any(1)
