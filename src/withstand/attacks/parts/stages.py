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

SIZE = 2**19
"""Most numbers in the points of a row that are asked about at once: what 10 colour images of 128 by 128 pixels hold."""

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

    def stage(
        self, begin: Begin, number: int, rows: Tensor | None = None, watched: bool = True, copies: int = 1
    ) -> Search:
        """A search of its own over the live rows, or those among `rows` [B]: its state is as large as they are.

        number: the stage of its asks, and of its random streams. watched: whether its margins count towards the best.
        copies: searches of every row side by side, each with random streams of its own.
        """
        together = max(1, SIZE // self.x0[0].numel())
        for first in range(0, copies, together):
            index = (self.live if rows is None else self.live & rows).nonzero().squeeze(1)
            if len(index):
                part = min(together, copies - first)
                streams = RowRandom(self.rng.seeds[index]).fork(number)
                streams = streams.fork(first) if first else streams
                yield from self._side_by_side(begin, number, index, streams.spread(part), part, watched)

    def _side_by_side(
        self, begin: Begin, number: int, index: Tensor, streams: RowRandom, copies: int, watched: bool
    ) -> Search:
        """One search of `copies` rows for every row of `index`, each of which is asked about with as many points."""
        each = index.repeat_interleave(copies)
        search = begin(self.x0[each], self.threat.pick(each, self.x0), streams)
        told = None
        while True:
            try:
                ask = next(search) if told is None else search.send(told)
            except StopIteration:
                return
            full = yield self._widened(ask, index, number, copies)
            self.live = full.live
            told = _narrowed(full, index, copies)
            if watched:
                lowest = told.margin.reshape(len(index), -1).amin(1)
                self.margin[index] = torch.minimum(self.margin[index], lowest)
            if not bool(told.live.any()):
                search.close()
                return

    def _widened(self, ask: Ask, index: Tensor, number: int, copies: int) -> Ask:
        if copies > 1:
            x, target, weights, rows = (_stacked(part, copies) for part in (ask.x, ask.target, ask.weights, ask.rows))
            assert x is not None
            ask = replace(ask, x=x, target=target, weights=weights, rows=None if rows is None else rows.any(1))
        asked = torch.zeros_like(self.live)
        asked[index] = True if ask.rows is None else ask.rows
        x, target, weights = (self._put(part, index) for part in (ask.x, ask.target, ask.weights))
        assert x is not None
        return replace(ask, x=x, target=target, weights=weights, rows=asked, stage=number)

    def _put(self, part: Tensor | None, index: Tensor) -> Tensor | None:
        if part is None or len(index) == len(self.x0):
            return part
        return part.new_zeros(len(self.x0), *part.shape[1:]).index_copy_(0, index, part)


def _stacked(part: Tensor | None, copies: int) -> Tensor | None:
    """[B * copies, ...] as [B, copies, ...]."""
    return None if part is None else part.reshape(-1, copies, *part.shape[1:])


def _narrowed(told: Told, index: Tensor, copies: int) -> Told:
    """What was told of the rows of `index`, a row a copy."""
    parts = [told.margin, told.loss, told.grad, told.targets]
    if len(index) < len(told.live):
        parts = [None if part is None else part[index] for part in parts]
    if copies > 1:
        parts = [None if part is None else part.flatten(0, 1) for part in parts]
    margin, loss, grad, targets = parts
    assert margin is not None
    assert loss is not None
    return Told(margin, loss, grad, targets, told.live[index].repeat_interleave(copies))
