"""The Jacobian-based saliency map attack."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.targeting import by_distance
from withstand.core.evidence import Ask
from withstand.core.registry import Count, Share, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.sparse import L0
from withstand.core.threat import Threat, rowwise


@attack
class JSMA:
    """Send the pair of pixels that is most salient for a class to the edges of the domain, pair after pair, until the
    property is violated (Papernot et al. 2016, arXiv:1511.07528). Under `--property not-class:CLASS` it aims at that
    class, else at one class after the other, those first that are nearest if the model were linear.

    targets: classes aimed at, 3. pixels: changed at once, 2. most: share of the pixels at which a class is given up,
    0.145. The last two are the paper's, as is the full change of a pixel (theta 1).

    The sums of logits of released code depend on a constant that may be added to all logits. Here logits are counted
    from their mean: then what the target gains is what the others lose, and the best pair is the two best pixels, so
    that no pairs need be searched. Pixels may rise or fall, whichever gains more; channels of a pixel change together.
    After a violation, pixels that it does not need are given back.
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    targets: Count = 3
    pixels: Count = 2
    most: Share = 0.145

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """The asks that choose classes; for every class one a step, and one for every pixel that may be given back."""
        assert isinstance(threat, L0)
        for target in (yield from by_distance(x0, threat, self.targets)).unbind(1):
            yield from self._aim(x0, threat, target)

    def _aim(self, x0: Tensor, threat: L0, target: Tensor) -> Search:
        """Change pixels for one class a row, then give back those that are not needed."""
        told = yield Ask(x0)
        assert told.targets is not None
        # margins are z_y - z_j, so this is the mean of z less the target's, from one backward pass
        weights = torch.zeros_like(told.targets).scatter(1, target[:, None], 1.0) - 1 / (told.targets.shape[1] + 1)
        low, high = threat.domain
        changed = torch.zeros_like(threat.maps(x0)[:, 0].flatten(1), dtype=torch.bool)
        needed = torch.zeros_like(changed, dtype=x0.dtype)
        found, rows, x = torch.zeros_like(told.live), told.live, x0
        for _ in range(math.ceil(self.most * changed.shape[1] / self.pixels) + 1):
            told = yield Ask(x, grad=True, weights=weights, rows=rows)
            assert told.grad is not None
            hit = rows & (told.margin <= 0)
            needed = torch.where(hit[:, None], self._pixels((x0 - x) * told.grad, threat), needed)
            found, rows = found | hit, rows & told.live & ~hit
            if not bool(rows.any()):
                break
            edge = torch.where(told.grad > 0, low, torch.where(told.grad < 0, high, x))
            gain = self._pixels((x - edge) * told.grad, threat).masked_fill(changed | ~rows[:, None], 0.0)
            taken = self._largest(gain) & (gain > 0)
            changed, x = changed | taken, self._paint(x, edge, taken, threat)
        yield from self._give_back(x0, x, threat, changed & found[:, None], needed)

    def _give_back(self, x0: Tensor, x: Tensor, threat: L0, left: Tensor, needed: Tensor) -> Search:
        """Try every pixel `left` [B, N] to be given back once, those `needed` least first."""
        while bool(left.any()):
            least = needed.masked_fill(~left, torch.inf).argmin(1, keepdim=True)
            one = torch.zeros_like(left).scatter(1, least, True) & left
            less = self._paint(x, x0, one, threat)
            told = yield Ask(less, rows=left.any(1))
            x = torch.where(rowwise(told.margin <= 0, x), less, x)
            left = left & ~one & told.live[:, None]

    def _largest(self, gain: Tensor) -> Tensor:
        """The `pixels` largest of gain [B, N] in every row."""
        best = gain.argsort(dim=1, descending=True, stable=True)[:, : self.pixels]
        return torch.zeros_like(gain, dtype=torch.bool).scatter(1, best, True)

    def _pixels(self, values: Tensor, threat: L0) -> Tensor:
        """The sum over every pixel's channels, [B, N]."""
        return threat.maps(values).sum(1).flatten(1)

    def _paint(self, x: Tensor, by: Tensor, pixels: Tensor, threat: L0) -> Tensor:
        """`by` in pixels bool [B, N], x elsewhere."""
        maps = threat.maps(x)
        return threat.paint(x, by, pixels.reshape(len(x), 1, *maps.shape[2:]))
