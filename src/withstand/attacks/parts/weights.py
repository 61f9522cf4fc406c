"""The search for the smallest weight of a violation against distance that still leads to one."""

import torch
from torch import Tensor


class Weights:
    """A weight [B] for every row, and the bounds between which it is bisected (Carlini and Wagner 2017,
    arXiv:1608.04644): where a search of some steps met no violation it is raised, tenfold as long as none ever did."""

    def __init__(self, first: float, rows: Tensor, most: float = 1e8) -> None:
        self.value = torch.full_like(rows, first, dtype=torch.float64)
        self.low, self.high = torch.zeros_like(self.value), torch.full_like(self.value, torch.inf)
        self.most = most

    def close(self, rows: Tensor, violated: Tensor) -> None:
        """End the search of rows bool [B], of which `violated` bool [B] met a violation, and set their next weight."""
        self.high = torch.where(rows & violated, self.high.minimum(self.value), self.high)
        self.low = torch.where(rows & ~violated, self.low.maximum(self.value), self.low)
        middle = torch.where(self.high < torch.inf, (self.low + self.high) / 2, (10 * self.low).clamp(max=self.most))
        self.value = torch.where(rows, middle, self.value)
