"""Attacks in a row: each works on the rows that those before have left, and only on those."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Told
from withstand.core.rng import RowRandom
from withstand.core.runner import Search
from withstand.core.threat import Threat

Begin = Callable[[Tensor, Threat, RowRandom], Generator[Ask, Told, Any]]
"""What starts a search from x0, threat and random streams, as `Attack.search` does."""


@dataclass
class Field:
    """All rows [B] of a search: inputs, threat and random streams, which rows are live, and the first and the best
    margin told of each."""

    x0: Tensor
    threat: Threat
    rng: RowRandom

    def __post_init__(self) -> None:
        self.live = torch.ones(len(self.x0), dtype=torch.bool, device=self.x0.device)
        self.margin = self.x0.new_full((len(self.x0),), torch.inf)
        self.clean = self.margin

    def near(self, share: float) -> Tensor:
        """Rows [B] whose best margin is at most this share of the clean one."""
        return self.margin <= share * self.clean

    def stage(self, begin: Begin, number: int, rows: Tensor | None = None, watched: bool = True) -> Search:
        """A search of its own over the live rows, or those among `rows` [B]: its state is as large as they are.

        number: the stage of its asks, and of its random streams. watched: whether its margins count towards the best.
        """
        index = (self.live if rows is None else self.live & rows).nonzero().squeeze(1)
        if len(index) == 0:
            return
        streams = RowRandom(self.rng.seeds[index]).fork(number)
        search = begin(self.x0[index], self.threat.pick(index, self.x0), streams)
        told = None
        while True:
            try:
                ask = next(search) if told is None else search.send(told)
            except StopIteration:
                return
            full = yield self._widened(ask, index, number)
            self.live = full.live
            told = _narrowed(full, index)
            if watched:
                self.margin[index] = torch.minimum(self.margin[index], told.margin.reshape(len(index), -1).amin(1))
            if not bool(told.live.any()):
                search.close()
                return

    def _widened(self, ask: Ask, index: Tensor, number: int) -> Ask:
        asked = torch.zeros_like(self.live)
        asked[index] = True if ask.rows is None else ask.rows
        x, target, weights = (self._put(part, index) for part in (ask.x, ask.target, ask.weights))
        assert x is not None
        return replace(ask, x=x, target=target, weights=weights, rows=asked, stage=number)

    def _put(self, part: Tensor | None, index: Tensor) -> Tensor | None:
        if part is None or len(index) == len(self.x0):
            return part
        return part.new_zeros(len(self.x0), *part.shape[1:]).index_copy_(0, index, part)


def _narrowed(told: Told, index: Tensor) -> Told:
    if len(index) == len(told.live):
        return told
    grad, targets = (None if part is None else part[index] for part in (told.grad, told.targets))
    return Told(told.margin[index], told.loss[index], grad, targets, told.live[index])
