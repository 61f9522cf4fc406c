"""Attacks in a row, each on the rows the others left: what a stage asks, and copies of a search side by side."""

from collections.abc import Generator

import pytest
import torch
from torch import Tensor

from withstand.attacks.parts.stages import SIZE, Field
from withstand.core.balls import Linf
from withstand.core.evidence import Ask, Told
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.threat import Threat


def test_copies_of_a_stage_are_searches_of_their_own_side_by_side() -> None:
    """Each copy draws other numbers and sees its own answers; the first is the search there would be without copies."""
    x0, rng = torch.rand(4, 3), RowRandom(row_seeds(0, range(4), "copies"))

    def begin(x0: Tensor, threat: Threat, rng: RowRandom) -> Generator[Ask, Told, None]:
        told = yield Ask(rng.uniform((3,)), weights=rng.uniform((2,)), grad=True)
        assert told.grad is not None
        assert told.targets is not None
        assert (told.margin.shape, told.targets.shape) == ((len(x0),), (len(x0), 2))
        assert torch.equal(told.margin, told.grad[:, 0])
        yield Ask(told.grad)

    def answer(ask: Ask, live: Tensor) -> Told:
        margin = ask.x[..., 0]
        return Told(margin, margin, ask.x, ask.x[..., :2], live)

    live = torch.tensor([True, False, True, True])
    seen = {}
    for copies in (1, 5):
        field = Field(x0, Linf(0.1), rng)
        field.live = live
        search = field.stage(begin, 7, copies=copies)
        ask = next(search)
        assert ask.rows is not None
        assert ask.rows.tolist() == live.tolist()
        seen[copies] = ask
        again = search.send(answer(ask, live))
        assert torch.equal(again.x[live], ask.x[live])
        lowest = ask.x[..., 0] if copies == 1 else ask.x[..., 0].amin(1)
        assert torch.equal(field.margin[live], lowest[live])
        assert field.margin[1] == torch.inf
        with pytest.raises(StopIteration):
            search.send(answer(again, live))
    assert seen[5].weights is not None
    assert (seen[5].x.shape, seen[5].weights.shape) == ((4, 5, 3), (4, 5, 2))
    assert torch.equal(seen[5].x[:, 0], seen[1].x)
    assert len(set(map(tuple, seen[5].x[live].flatten(0, 1).tolist()))) == 15


def test_copies_of_large_points_are_asked_about_in_turn() -> None:
    x0 = torch.zeros(2, SIZE // 2)

    def begin(x0: Tensor, threat: Threat, rng: RowRandom) -> Generator[Ask, Told, None]:
        yield Ask(x0 + rng.uniform((1,)))

    field = Field(x0, Linf(0.1), RowRandom(row_seeds(0, range(2), "copies")))
    search = field.stage(begin, 0, copies=5)
    asks = [next(search)]
    for _ in range(2):
        margin = torch.ones(asks[-1].x.shape[:-1])
        asks.append(search.send(Told(margin, margin, None, None, torch.ones(2, dtype=torch.bool))))
    assert [tuple(ask.x.shape[1:-1]) for ask in asks] == [(2,), (2,), ()]
    drawn = torch.cat([ask.x[..., 0].reshape(2, -1) for ask in asks], 1)
    assert len(drawn.unique()) == 10
