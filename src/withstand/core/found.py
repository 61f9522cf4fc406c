"""What an attack found."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from withstand.core.threat import rowwise

COUNTS = ("queries", "gradients", "zero_gradients", "nonfinite")


@dataclass(frozen=True)
class Found:
    """What an attack found, per row [B]. Rows refuted hold a point of the threat that the model gets wrong.

    x: the best point (`threat.start(x0)` where nothing was better). margin, clean_margin: at x and at x0. distance: of
    x from x0 (infinite unless refuted). queries: forward passes, the clean one included; gradients: backward passes.
    zero_gradients: answers whose gradient was exactly zero. nonfinite: answers that held a NaN or an infinity. late:
    share of the whole fall of the margin that came in the last tenth of the asks (0 if refuted). stage: the stage of
    the attack that found x (-1: none did). stopped: why the search of a row ended before its own end ("time",
    "queries"), or None.
    """

    x: Tensor
    margin: Tensor
    clean_margin: Tensor
    refuted: Tensor
    distance: Tensor
    queries: Tensor
    gradients: Tensor
    zero_gradients: Tensor
    nonfinite: Tensor
    late: Tensor
    stage: Tensor
    stopped: str | None = None

    def looked(self, draws: int = 1) -> Tensor:
        """Rows [B] that the attack came to look at: all, unless its budget was over after the clean pass, which asks
        `draws` times."""
        return self.queries > (draws if self.stopped else -1)

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Rows of several results in a row."""
        names = [name for name in cls.__dataclass_fields__ if name != "stopped"]
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(**joined, stopped=next((part.stopped for part in parts if part.stopped), None))

    def then(self, rows: Tensor, later: Self) -> Self:
        """With what a later attack found on some rows [K]: per row the better of both, nearer first, and the costs of
        both."""
        names = [name for name in self.__dataclass_fields__ if name != "stopped"]
        before = replace(self, **{name: getattr(self, name)[rows] for name in names})
        better = (later.distance < before.distance) | (~before.refuted & (later.margin < before.margin))
        held = {name: getattr(self, name).clone() for name in names}
        for name, full in held.items():
            old, new = getattr(before, name), getattr(later, name)
            mixed = old + new if name in COUNTS else torch.where(rowwise(better, new), new, old)
            full[rows] = mixed
        return replace(self, **held, stopped=self.stopped or later.stopped)
