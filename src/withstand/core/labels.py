"""A property of classifiers whose answer is more than one class: the K largest logits."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.property import Property, Rows, others

GROUPS = 2000
"""Sets of k classes that a proof of `top-k` may have to look at, at most."""


@dataclass(frozen=True)
class TopK(Property):
    """The label y stays among the k largest of the logits [B, K]."""

    reads: ClassVar[Literal["class", "labels", "side", "values"]] = "class"

    k: int

    def __str__(self) -> str:
        return f"top-k:{self.k}"

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        """Of every k other classes, one stays below the label."""
        self._check(outputs)
        if math.comb(outputs - 1, self.k) > GROUPS:
            raise InputError(
                f"The property {self} of {outputs} classes cannot be proved, since {math.comb(outputs - 1, self.k):,} "
                f"sets of classes would have to be looked at; attack it, or choose a smaller k."
            )
        sets = torch.tensor(list(itertools.combinations(range(outputs - 1), self.k)), device=y.device)
        identity = torch.eye(outputs, dtype=dtype, device=y.device)
        weight = identity[y][:, None] - identity[others(y, outputs)[:, sets.flatten()]]
        group = torch.arange(len(sets), device=y.device).repeat_interleave(self.k)
        return Rows(weight, weight.new_zeros(weight.shape[:2]), group)

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """[B, K - 1]: how far every other class, together with the k - 1 largest of the rest, is from pushing the label
        out. For k = 1 the gaps of `argmax`."""
        self._check(outputs.shape[1])
        rest = outputs.gather(1, others(y, outputs.shape[1]))
        last = rest.topk(self.k, dim=1).values[:, -1:]
        return outputs.gather(1, y[:, None]) - torch.minimum(rest, last)

    def _check(self, outputs: int) -> None:
        if self.k >= outputs:
            raise InputError(
                f"The property {self} always holds of {outputs} classes; choose a k from 1 to {outputs - 1}."
            )
