"""Batches of samples in memory. A batch is a function of its place in the training, so a resumed run needs no more than
that place, and any number of processes can share one batch."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.rng import RowRandom, label_of
from withstand.hardening.augment import Augment


class Batch(NamedTuple):
    """x [B, *shape], y int64 [B] (-1: no label), ids int64 [B]: numbers of the rows in the training data, by which
    random numbers belong to rows; those without a label are numbered after the others. total: rows of the whole batch
    over all processes."""

    x: Tensor
    y: Tensor
    ids: Tensor
    total: int

    def parts(self, count: int) -> list["Batch"]:
        """The batch in so many parts of nearly equal size (fewer where there are fewer rows), every `count`-th row in
        each, so that rows with and without a label are shared out evenly."""
        if count == 1:
            return [self]
        cut = [slice(first, None, count) for first in range(min(count, len(self.x)))]
        return [Batch(self.x[rows], self.y[rows], self.ids[rows], self.total) for rows in cut]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.x.to(device), self.y.to(device), self.ids.to(device), self.total)


class Loader:
    """Batches of samples x [N, *shape], in the model's input domain, with classes y int64 [N], in an order of its own
    for every epoch.

    batch: rows of one optimiser's step, over all processes. augment: functions applied to the inputs one after the
    other. unlabelled: inputs [M, *shape] without labels, of which every batch holds `share` (they take the place of
    labelled rows; an epoch is one pass over the labelled ones). seed: of orders and augmentation.
    Raises InputError for sizes that leave nothing to train on.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch: int,
        *,
        seed: int = 0,
        augment: Sequence[Augment] = (),
        unlabelled: Tensor | None = None,
        share: float = 0.5,
    ) -> None:
        self.x, self.y, self.batch, self.seed, self.augment = x, y, batch, seed, tuple(augment)
        self.unlabelled = unlabelled
        self.free = 0 if unlabelled is None else round(batch * share)
        self.labelled = batch - self.free
        if len(x) != len(y) or y.dim() != 1 or y.is_floating_point():
            raise InputError(
                f"{len(x)} inputs do not go with labels of shape {tuple(y.shape)} and type {y.dtype}; give one whole "
                "number an input."
            )
        if len(x) == 0 or batch < 1 or self.labelled < 1:
            raise InputError(
                f"Batches of {batch} rows, {self.free} without a label, of {len(x)} labelled samples hold nothing "
                "to learn from; give larger batches, a smaller share without labels or more samples."
            )
        if unlabelled is not None and (len(unlabelled) == 0 or unlabelled.shape[1:] != x.shape[1:]):
            raise InputError(
                f"Inputs without labels of shape {tuple(unlabelled.shape)} do not go with {tuple(x.shape)}; give "
                "at least one, of the shape of the others."
            )

    def __len__(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-len(self.x) // self.labelled)

    def at(self, epoch: int, index: int, rank: int = 0, processes: int = 1) -> Batch:
        """This process's rows of batch `index` of an epoch, both counted from 0: every `processes`-th row, so that the
        union over all is the batch that one process would see. A last batch of fewer rows than processes is filled up
        with rows from the epoch's beginning."""
        order = _order(self.seed, "labelled", epoch, len(self.x))
        rows = order[index * self.labelled : (index + 1) * self.labelled]
        if len(rows) < processes:
            rows = torch.cat([rows, order.repeat(processes)[: processes - len(rows)]])
        mine = rows[rank::processes]
        x, y, ids = self.x[mine], self.y[mine], mine
        total = len(rows)
        if self.unlabelled is not None:
            free = self._free_rows(epoch * len(self) + index)
            total += len(free)
            free = free[rank::processes]
            x = torch.cat([x, self.unlabelled[free]])
            y = torch.cat([y, torch.full((len(free),), -1)])
            ids = torch.cat([ids, free + len(self.x)])
        for number, change in enumerate(self.augment):
            x = change(x, _rows_random(self.seed, epoch, number, ids).fork(0))
        return Batch(x, y, ids, total)

    def _free_rows(self, batch: int) -> Tensor:
        """Rows without labels of the so-manieth batch: they run through one order after another, without end."""
        assert self.unlabelled is not None
        count, start = len(self.unlabelled), batch * self.free
        places = torch.arange(start, start + self.free)
        orders = {turn: _order(self.seed, "unlabelled", turn, count) for turn in (places // count).unique().tolist()}
        return torch.cat([orders[turn][places[places // count == turn] % count] for turn in orders])


@lru_cache(maxsize=4)
def _order(seed: int, what: str, epoch: int, count: int) -> Tensor:
    numbers = torch.Generator().manual_seed(label_of(f"{seed}/{what}/{epoch}"))
    return torch.randperm(count, generator=numbers)


def _rows_random(seed: int, epoch: int, number: int, ids: Tensor) -> RowRandom:
    return RowRandom(ids).fork(label_of(f"{seed}/augment/{epoch}/{number}"))
