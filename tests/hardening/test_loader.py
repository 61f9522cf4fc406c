"""Batches: a function of their place, shared by processes, mixed with rows without labels, augmented row by row."""

from functools import partial

import pytest
import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.rng import RowRandom
from withstand.hardening.augment import mirrored, shifted
from withstand.hardening.loader import Loader


def rows(count: int, shape: tuple[int, ...] = (1, 4, 4)) -> tuple[Tensor, Tensor]:
    numbers = torch.Generator().manual_seed(0)
    return torch.rand(count, *shape, generator=numbers), torch.arange(count) % 7


def test_an_epoch_shows_every_row_once_in_another_order_than_the_next() -> None:
    loader = Loader(*rows(23), 5)
    assert len(loader) == 5
    epochs = [torch.cat([loader.at(epoch, index).ids for index in range(5)]) for epoch in (0, 1)]
    for seen in epochs:
        assert torch.equal(seen.sort().values, torch.arange(23))
    assert not torch.equal(*epochs)


def test_a_batch_depends_on_its_place_only() -> None:
    x, y = rows(23)
    change = [partial(shifted, pixels=1)]
    first, second = Loader(x, y, 5, seed=2, augment=change), Loader(x, y, 5, seed=2, augment=change)
    for epoch in (0, 1):
        for index in range(5):
            first.at(epoch, index)
    torch.manual_seed(77)
    for one, other in zip(first.at(1, 3)[:3], second.at(1, 3)[:3]):
        assert torch.equal(one, other)
    assert not torch.equal(first.at(0, 0).ids, Loader(x, y, 5, seed=3).at(0, 0).ids)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batch_of_one(processes: int) -> None:
    x, y = rows(23)
    loader = Loader(x, y, 8, augment=[shifted], unlabelled=rows(30)[0], share=0.25)
    for index in range(len(loader)):
        whole = loader.at(0, index)
        shares = [loader.at(0, index, rank, processes) for rank in range(processes)]
        assert all(share.total == whole.total == len(whole.x) for share in shares)
        ids = torch.cat([share.ids for share in shares])
        order, mine = ids.argsort(), whole.ids.argsort()
        assert torch.equal(ids[order], whole.ids[mine])
        assert torch.equal(torch.cat([share.x for share in shares])[order], whole.x[mine])
        assert torch.equal(torch.cat([share.y for share in shares])[order], whole.y[mine])


def test_a_last_batch_smaller_than_the_processes_gives_each_a_row() -> None:
    loader = Loader(*rows(9), 4)
    shares = [loader.at(0, 2, rank, 4) for rank in range(4)]
    assert [len(share.x) for share in shares] == [1, 1, 1, 1]
    assert all(share.total == 4 for share in shares)


def test_parts_of_a_batch_are_the_batch() -> None:
    batch = Loader(*rows(23), 10).at(0, 0)
    parts = batch.parts(3)
    assert [len(part.x) for part in parts] == [4, 3, 3]
    for number, part in enumerate(parts):
        assert torch.equal(part.x, batch.x[number::3])
        assert torch.equal(part.ids, batch.ids[number::3])
        assert torch.equal(part.y, batch.y[number::3])
    assert {part.total for part in parts} == {10}
    assert [len(part.x) for part in batch.parts(12)] == [1] * 10


def test_unlabelled_rows_take_their_share_and_run_through_all_of_them() -> None:
    x, y = rows(12)
    free = torch.full((10, 1, 4, 4), 2.0) + torch.arange(10.0)[:, None, None, None]
    loader = Loader(x, y, 6, unlabelled=free, share=1 / 3)
    assert len(loader) == 3
    seen = []
    for epoch in range(5):
        for index in range(3):
            batch = loader.at(epoch, index)
            assert batch.y[:4].min() >= 0
            assert batch.y[4:].tolist() == [-1, -1]
            assert torch.equal(batch.x[4:], free[batch.ids[4:] - 12])
            seen += (batch.ids[4:] - 12).tolist()
    for turn in range(3):
        assert sorted(seen[10 * turn : 10 * turn + 10]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_shifts_by_one_pixel_are_all_moves_with_a_zero_edge() -> None:
    x = rows(1)[0].expand(500, 1, 4, 4)
    padded = torch.nn.functional.pad(x[:1], (1, 1, 1, 1))[0, 0]
    moves = torch.stack([padded[i : i + 4, j : j + 4] for i in range(3) for j in range(3)])
    moved = shifted(x, RowRandom(torch.arange(500)))[:, 0]
    hits = (moved[:, None] == moves).flatten(2).all(2)
    assert hits.any(1).all()
    assert (hits.sum(0) > 25).all()
    half = shifted(x, RowRandom(torch.arange(500)), share=0.5)
    still = (half == x).flatten(1).all(1).float().mean()
    assert 0.48 < still < 0.64  # half of them, and a ninth of the others


def test_mirrored_images_are_mirrored_whole() -> None:
    x = rows(400, (3, 4, 4))[0]
    turned = mirrored(x, RowRandom(torch.arange(400)))
    same, other = (turned == x).flatten(1).all(1), (turned == x.flip(3)).flatten(1).all(1)
    assert (same ^ other).all()
    assert 150 < other.sum() < 250


@pytest.mark.parametrize("change", [shifted, partial(shifted, pixels=4, share=0.7), mirrored])
def test_what_happens_to_a_row_does_not_depend_on_its_batch(change) -> None:
    x, y = rows(60, (3, 8, 8))
    whole = Loader(x, y, 60, augment=[change]).at(0, 0)
    for index in range(4):
        part = Loader(x, y, 15, augment=[change]).at(0, index)
        places = (whole.ids[:, None] == part.ids).float().argmax(0)
        assert torch.equal(whole.x[places], part.x)
    again = Loader(x, y, 60, augment=[change]).at(1, 0)
    assert not torch.equal(again.x[again.ids.argsort()], whole.x[whole.ids.argsort()])


def test_data_with_nothing_to_learn_is_refused() -> None:
    x, y = rows(10)
    with pytest.raises(InputError, match="nothing to learn from"):
        Loader(x, y, 4, unlabelled=x, share=1.0)
    with pytest.raises(InputError, match="nothing to learn from"):
        Loader(x[:0], y[:0], 4)
    with pytest.raises(InputError, match="do not go with labels"):
        Loader(x, y[:9], 4)
    with pytest.raises(InputError, match="do not go with labels"):
        Loader(x, y.float(), 4)
    with pytest.raises(InputError, match="of the shape of the others"):
        Loader(x, y, 4, unlabelled=torch.rand(3, 5))
