"""What searches over balls around the same inputs share: bounds over a ball hold over every smaller one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from withstand.bounds.rule import Box


class _Held:
    """What is held of N questions: boxes of values over balls of radius `at` [N], and the radii and bounds told."""

    def __init__(self, count: int) -> None:
        self.at = torch.zeros(count, dtype=torch.float64)
        self.boxes: dict[str, Box] = {}
        self.radius = torch.zeros(count, dtype=torch.float64)
        self.bound = torch.full((count,), -torch.inf, dtype=torch.float64)


class Nested:
    """Some questions of a search for radii: they ask about balls of `radii` [K], and later perhaps about smaller ones.

    A verifier may begin from the boxes `known` from larger balls, `keep` its own, and tell with `reach` how far inside
    the ball its bounds prove the property, where they do not on all of it.
    """

    def __init__(self, count: int) -> None:
        self._held, self._index = _Held(count), torch.arange(count)
        self.radii = torch.zeros(count, dtype=torch.float64)

    def ask(self, rows: Tensor, radii: Tensor) -> "Nested":
        """The questions `rows` [K] at `radii` [K]; nothing has been told of them yet."""
        part = self.pick(rows)
        part.radii = radii.clone()
        part._held.radius[part._index], part._held.bound[part._index] = 0.0, -torch.inf
        return part

    def pick(self, rows: Tensor) -> "Nested":
        """Of these questions those at places `rows` [K]."""
        part = Nested.__new__(Nested)
        part._held, part._index, part.radii = self._held, self._index[rows], self.radii[rows]
        return part

    @property
    def known(self) -> Mapping[str, Box] | None:
        """Boxes [K, *shape] by value that hold over the balls asked about, infinite where nothing is known."""
        wide = self._held.at[self._index] >= self.radii
        if not bool(wide.any()):
            return None
        found = {}
        for name, (low, high) in self._held.boxes.items():
            unknown = ~wide.reshape(-1, *(1,) * (low.dim() - 1))
            low, high = low[self._index], high[self._index]
            found[name] = low.masked_fill(unknown, -torch.inf), high.masked_fill(unknown, torch.inf)
        return found

    def keep(self, boxes: Mapping[str, Box], wanted: Tensor) -> None:
        """Keep the boxes [K, *shape] of the questions `wanted`, bool [K], for smaller balls."""
        index, held = self._index[wanted], self._held.boxes
        for name in boxes.keys() - held.keys():
            like = boxes[name][0]
            unknown = like.new_full((len(self._held.at), *like.shape[1:]), torch.inf)
            held[name] = -unknown, unknown
        for name, ends in held.items():
            given = boxes.get(name, (-torch.inf, torch.inf))
            for all, end in zip(ends, given, strict=True):
                all[index] = end[wanted] if isinstance(end, Tensor) else end
        self._held.at[index] = self.radii[wanted]

    def reach(self, radius: Tensor, bound: Tensor) -> None:
        """Tell that the margin is at least `bound` [K] over the balls of `radius` [K]; the largest told counts."""
        better = radius > self._held.radius[self._index]
        index = self._index[better]
        self._held.radius[index], self._held.bound[index] = radius[better].double(), bound[better].double()

    @property
    def reached(self) -> tuple[Tensor, Tensor]:
        """The largest radius [K] told of every question, 0 where none was, and the bound [K] there."""
        return self._held.radius[self._index], self._held.bound[self._index]
