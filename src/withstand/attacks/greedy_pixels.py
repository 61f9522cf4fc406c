"""Greedy search for the fewest pixels: add one at a time, then exchange."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Natural, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.sparse import L0
from withstand.core.threat import Threat

FAR = 1e30
"""What puts a pixel behind all others whose gain or loss is a number of the gradient's size."""


@attack
class GreedyPixels:
    """Send one pixel after the other to an edge of the domain, the one that promises most, until the property is
    violated; then exchange pixels to do with fewer (in the manner of Hajri et al. 2020, arXiv:2011.12423, whose voting
    folded Gaussian attack adds one pixel at a time too, at random values).

    Gains are read off the gradient. After a violation the pixel whose return to its first value costs least is given
    back; from then on one is given back and another added at every ask. patience: asks without fewer pixels after
    which a row ends. tabu: asks for which an added pixel stays and one given back stays away. most: pixels at which a
    row gives up. loss: smooth (the cross-entropy for labels) or margin. Defaults: measured on networks for digits.
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    patience: Count = 10
    tabu: Natural = 2
    most: Count = 500
    loss: Loss = "smooth"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step."""
        assert isinstance(threat, L0)
        low, high = threat.domain
        x = x0
        pixels = threat.maps(x0)[:, 0].flatten(1)
        changed, until = torch.zeros_like(pixels, dtype=torch.bool), torch.zeros_like(pixels, dtype=torch.long)
        fewest = torch.full((len(x0),), pixels.shape[1] + 1, device=x0.device)
        left = torch.full_like(fewest, self.patience)
        place = torch.arange(pixels.shape[1], device=x0.device)
        active = torch.ones_like(fewest, dtype=torch.bool)
        step = 0
        while bool(active.any()):
            told = yield Ask(x, grad=True, loss=self.loss, rows=active)
            assert told.grad is not None
            step += 1
            hit, count = told.margin <= 0, changed.sum(1)
            fewer = hit & (count < fewest)
            fewest = torch.where(fewer, count, fewest)
            found = fewest <= pixels.shape[1]
            left = torch.where(fewer, self.patience, left - found.long())
            active = told.live & (left > 0) & (fewest > 1) & (count < min(self.most, pixels.shape[1]))
            edge = torch.where(told.grad > 0, low, torch.where(told.grad < 0, high, x))
            gain, cost = (threat.maps(part * told.grad).sum(1).flatten(1) for part in (x - edge, x0 - x))
            barred = (until > step) * FAR
            added = (gain - barred).masked_fill(changed, -torch.inf).argmax(1, keepdim=True) == place
            back = (cost + barred).masked_fill(~changed, torch.inf).argmin(1, keepdim=True) == place
            added &= (active & ~hit)[:, None]
            back &= (active & found)[:, None] & changed
            until = torch.where(added | back, step + 1 + self.tabu, until)
            changed = (changed & ~back) | added
            back, added = (part.reshape(len(x), 1, *threat.maps(x).shape[2:]) for part in (back, added))
            x = threat.paint(threat.paint(x, x0, back), edge, added)
