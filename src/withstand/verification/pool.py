"""The open boxes of a branch and bound, best first, and last first once they are many."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """P boxes of flat inputs: question [P], low and high [P, n], bound [P] on the margin, open groups [P, G]."""

    question: Tensor
    low: Tensor
    high: Tensor
    bound: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.bound)

    def __getitem__(self, index: Tensor) -> "Boxes":
        return Boxes(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def join(cls, parts: "list[Boxes]") -> "Boxes":
        """Boxes of several lists in a row."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


class Pool:
    """Boxes waiting to be worked on.

    best_first: while it holds no more than so many, `take` gives those of the least bound; beyond, the latest ones,
    which keeps it small.
    """

    def __init__(self, first: Boxes, best_first: int) -> None:
        self._held, self._size, self.best_first = first, len(first), best_first

    def __len__(self) -> int:
        return self._size

    @property
    def boxes(self) -> Boxes:
        """All boxes held (views)."""
        return self._held[slice(0, self._size)]  # type: ignore[index]

    def take(self, count: int) -> Boxes:
        """Remove up to `count` boxes and return them."""
        count = min(count, self._size)
        tail = torch.arange(self._size - count, self._size)
        if count == self._size or self._size > self.best_first:
            index = tail
        else:
            index = self.boxes.bound.topk(count, largest=False).indices
        taken = self._held[index]
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[index[index >= self._size - count] - (self._size - count)] = True
        holes, movers = index[index < self._size - count], tail[~chosen]
        for field in fields(Boxes):
            column = getattr(self._held, field.name)
            column[holes] = column[movers]
        self._size -= count
        return taken

    def put(self, boxes: Boxes) -> None:
        """Add boxes."""
        need = self._size + len(boxes)
        if need > len(self._held):
            spare = torch.zeros(2 * need - self._size, dtype=torch.long)
            self._held = Boxes.join([self.boxes, boxes[spare]])
        for field in fields(Boxes):
            getattr(self._held, field.name)[self._size : need] = getattr(boxes, field.name)
        self._size = need

    def drop(self, closed: Tensor) -> None:
        """Forget the boxes of the questions that are closed: bool [B]."""
        keep = ~closed[self.boxes.question]
        if not bool(keep.all()):
            self._held = self.boxes[keep]
            self._size = len(self._held)

    def least(self, questions: int) -> Tensor:
        """The least bound of each question's boxes [B], inf where it has none."""
        least = self._held.bound.new_full((questions,), torch.inf)
        return least.scatter_reduce_(0, self.boxes.question, self.boxes.bound, "amin")
