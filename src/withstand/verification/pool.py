"""The open domains of a branch and bound, best first, and last first once they are many."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from withstand.verification.batch import Batch


class Bounded(Protocol):
    """Domains with a bound [P] on the margin: a `Batch`."""

    @property
    def bound(self) -> Tensor: ...
    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor | slice) -> Self: ...
    def put(self, index: Tensor | slice, rows: Self) -> None: ...
    @classmethod
    def join(cls, parts: list[Self]) -> Self: ...


Domains = TypeVar("Domains", bound=Bounded)


@dataclass(frozen=True)
class Boxes(Batch):
    """P boxes of flat inputs: question [P], low and high [P, n], bound [P] on the margin, open groups [P, G], and where
    certificates are written the node [P] of each."""

    question: Tensor
    low: Tensor
    high: Tensor
    bound: Tensor
    groups: Tensor
    node: Tensor | None = None


class Pool(Generic[Domains]):
    """Domains waiting to be worked on.

    best_first: while it holds no more than so many, `take` gives those of the least bound; beyond, the latest ones,
    which keeps it small.
    """

    def __init__(self, first: Domains, best_first: int) -> None:
        self._room, self._count, self.best_first = first, len(first), best_first

    def __len__(self) -> int:
        return self._count

    @property
    def held(self) -> Domains:
        """All domains held (views)."""
        return self._room[slice(0, self._count)]

    @property
    def least(self) -> float:
        """The least bound held, inf where there is none."""
        return float(self.held.bound.min()) if self._count else torch.inf

    @property
    def size(self) -> int:
        """Bytes reserved."""
        return self._room.size

    def take(self, count: int) -> Domains:
        """Remove up to `count` domains and return them."""
        count = min(count, self._count)
        tail = torch.arange(self._count - count, self._count)
        if count == self._count or self._count > self.best_first:
            index = tail
        else:
            index = self.held.bound.topk(count, largest=False).indices
        taken = self._room[index]
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[index[index >= self._count - count] - (self._count - count)] = True
        holes, movers = index[index < self._count - count], tail[~chosen]
        self._room.put(holes, self._room[movers])
        self._count -= count
        return taken

    def put(self, domains: Domains) -> None:
        """Add domains."""
        need = self._count + len(domains)
        if need > len(self._room):
            spare = torch.zeros(2 * need - self._count, dtype=torch.long)
            self._room = self._room.join([self.held, domains[spare]])
        self._room.put(slice(self._count, need), domains)
        self._count = need

    def keep(self, wanted: Callable[[Domains], Tensor]) -> None:
        """Forget the domains for which `wanted`, asked of all of them at once, is false: bool [P]."""
        kept = wanted(self.held)
        if not bool(kept.all()):
            self._room = self.held[kept]
            self._count = len(self._room)


def least_by_question(boxes: Boxes, questions: int) -> Tensor:
    """The least bound of each question's boxes [B], inf where it has none."""
    least = boxes.bound.new_full((questions,), torch.inf)
    return least.scatter_reduce_(0, boxes.question, boxes.bound, "amin")
