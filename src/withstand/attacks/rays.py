"""RayS: which signs lead to the boundary soonest."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.labels import STARTS, Hunt, edges
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise


@attack
class Rays:
    """Walk from the input along a vector of signs and flip blocks of signs, halves first, then quarters and so on, as
    long as that brings the boundary nearer; needs labels only (Chen and Gu 2020, arXiv:2006.12792).

    queries: at most so many a sample; 10,000 as in the paper. tolerance: to which the boundary's distance is searched,
    as a share of the domain; .001 as there. Where the released code begins with all signs positive, this tries random
    blocks of signs too until one leads to a violation.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf",)
    access: ClassVar[Access] = Access.LABELS
    minimal: ClassVar[bool] = True

    queries: Count = 10000
    tolerance: Positive = 0.001

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """A first ray; then one ask a flip, and a bisection of rows where the flip brought the boundary nearer."""
        hunt = Hunt(x0, threat, self.queries)
        low, high = edges(x0, threat)
        rays = _Rays(hunt, (high - low).flatten(), self.tolerance)
        yield from rays.begin(rng)
        size, blocks, block = x0[0].numel(), 1, 0
        while not hunt.over:
            yield from rays.flip(block * size // blocks, (block + 1) * size // blocks)
            block += 1
            if block == blocks:
                blocks, block = (min(2 * blocks, size) if blocks < size else 1), 0


class _Rays:
    """Signs [B, d] and the distance [B] along them at which every row is violated."""

    def __init__(self, hunt: Hunt, far: Tensor, tolerance: float) -> None:
        self.hunt, self.tolerance, self.span = hunt, tolerance, far
        self.signs = torch.ones_like(flattened(hunt.x0))
        self.distance = far

    def _at(self, signs: Tensor, distance: Tensor) -> Tensor:
        x0 = self.hunt.x0
        return x0 + rowwise(distance, x0) * signs.reshape(x0.shape)

    def begin(self, rng: RowRandom) -> Search:
        """Signs that lead to a violation; rows for which none are found end."""
        found, signs = torch.zeros_like(self.hunt.going), self.signs
        size = signs.shape[1]
        for draw in range(STARTS):
            hit = yield from self.hunt.ask(self._at(signs, self.span), ~found)
            self.signs = torch.where(rowwise(hit, signs), signs, self.signs)
            found = found | hit
            if bool((found | ~self.hunt.going).all()):
                break
            width = max(1, size >> (1 + draw % 8))
            signs = rng.signs((-(-size // width),), signs.dtype).repeat_interleave(width, 1)[:, :size]
            signs = -self.signs if draw == 0 else signs
        self.hunt.keep(found)
        yield from self._shorten(self.signs, found)

    def flip(self, start: int, end: int) -> Search:
        """Flip the signs from start to end where that leads to the boundary sooner."""
        signs = self.signs.clone()
        signs[:, start:end] *= -1
        hit = yield from self.hunt.ask(self._at(signs, self.distance))
        yield from self._shorten(signs, hit)

    def _shorten(self, signs: Tensor, rows: Tensor) -> Search:
        """Take over signs at rows, whose points violate at the present distance, and bisect their distance."""
        low, high = torch.zeros_like(self.distance), self.distance
        while True:
            wide = rows & self.hunt.going & (high - low > self.tolerance * self.span)
            if not bool(wide.any()):
                break
            middle = (low + high) / 2
            hit: Tensor = yield from self.hunt.ask(self._at(signs, middle), wide)
            high = torch.where(hit, middle, high)
            low = torch.where(wide & ~hit, middle, low)
        self.signs = torch.where(rowwise(rows, signs), signs, self.signs)
        self.distance = torch.where(rows, high, self.distance)
