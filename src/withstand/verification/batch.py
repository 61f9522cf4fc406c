"""Records of tensors that share their first axis: picked, joined and cut as one."""

from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor


class Batch:
    """Base of frozen dataclasses whose fields are tensors [D, ...], batches of D rows, or None."""

    def __len__(self) -> int:
        return len(next(held for held in self._held() if held is not None))

    def __getitem__(self, index: Tensor | slice) -> Self:
        return type(self)(*(None if held is None else held[index] for held in self._held()))

    def put(self, index: Tensor | slice, rows: Self) -> None:
        """Overwrite the rows at `index`."""
        for mine, theirs in zip(self._held(), rows._held(), strict=True):
            if isinstance(mine, Batch):
                mine.put(index, theirs)
            elif mine is not None:
                mine[index] = theirs

    def where(self, better: Tensor, other: Self) -> Self:
        """The other's rows where `better` [D] is true, else these."""
        parts = zip(self._held(), other._held(), strict=True)
        return type(self)(*(_where(better, mine, theirs) for mine, theirs in parts))

    @classmethod
    def join(cls, parts: "list[Self]") -> Self:
        """The rows of several batches, in order."""
        columns = zip(*(part._held() for part in parts), strict=True)
        return cls(*(_join(list(column)) for column in columns))

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(held.size if isinstance(held, Batch) else held.nbytes for held in self._held() if held is not None)

    def _held(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]


def _where(better: Tensor, mine: Any, theirs: Any) -> Any:
    if mine is None:
        return None
    if isinstance(mine, Batch):
        return mine.where(better, theirs)
    return torch.where(better.reshape(-1, *(1,) * (mine.dim() - 1)), theirs, mine)


def _join(column: list[Any]) -> Any:
    if column[0] is None:
        return None
    return type(column[0]).join(column) if isinstance(column[0], Batch) else torch.cat(column)
