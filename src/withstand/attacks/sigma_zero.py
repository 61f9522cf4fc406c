"""sigma-zero: the fewest changed pixels by gradient descent on a smooth count."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from withstand.core.evidence import Ask
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.sparse import L0
from withstand.core.threat import Threat, rowwise

FADING = 0.1
"""The last step's length, as a share of the first one's."""


@attack
class SigmaZero:
    """Walk downhill on the margin and a smooth count of changed pixels, and cut small changes to zero (Cina et al.
    2024, arXiv:2402.01879).

    steps: 1000, the paper's; 100 are usable. step: the first step's length as a share of the domain, which falls to a
    tenth by a cosine. sigma: how small a squared change counts as none. cut: changes below this share of the domain
    become none, at first. drift: by how much the cut grows a step where the property is violated, and shrinks where
    not. Defaults are the paper's. Unlike the released code, it counts pixels, all channels together, and every row
    has an optimiser of its own.
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 1000
    step: Positive = 1.0
    sigma: Positive = 1e-3
    cut: Positive = 0.3
    drift: Positive = 0.01

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step."""
        assert isinstance(threat, L0)
        low, high = threat.domain
        width = high - low
        start = threat.maps(x0) / width
        change, mean, square = (torch.zeros_like(start) for _ in range(3))
        cut = start.new_full((len(x0), 1, 1, 1), self.cut)
        pixels = start[0, 0].numel()
        for i in range(self.steps):
            told = yield Ask(_moved(x0, change * width, threat), grad=True)
            assert told.grad is not None
            held = told.margin > 0
            slope = threat.maps(told.grad) * width * rowwise(held, start)
            size = change.square().sum(1, keepdim=True)
            slope += 2 * change * self.sigma / (size + self.sigma) ** 2 / pixels
            slope /= slope.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
            length = self.step * (FADING + (1 - FADING) * (1 + math.cos(math.pi * i / self.steps)) / 2)
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            spread = (square / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8
            change = change - length * mean / (1 - 0.9 ** (i + 1)) / spread
            change = (start + change).clamp(low / width, high / width) - start
            cut = (cut + self.drift * length * rowwise(torch.where(held, -1.0, 1.0), cut)).clamp(min=0)
            change = change.masked_fill(change.abs().amax(1, keepdim=True) < cut, 0.0)
        yield Ask(_moved(x0, change * width, threat))


def _moved(x0: Tensor, change: Tensor, threat: L0) -> Tensor:
    """x0 with changes [B, channels, height, width], in the domain; where they are 0, x0 to the bit."""
    x = threat.unmapped(threat.maps(x0) + change, x0).clamp(*threat.domain)
    return threat.paint(x0, x, (change != 0).any(1, keepdim=True))
