"""Sparse-RS: random search over few pixels, or over patches."""

import math
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from withstand.core.evidence import Ask
from withstand.core.patch import Patch
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.sparse import L0
from withstand.core.threat import Threat, rowwise

DIVISORS = {0: 2, 50: 4, 200: 5, 500: 6, 1000: 8, 2000: 10, 4000: 12, 6000: 15, 8000: 20}
"""Ten-thousandths of the queries after which the share of what is changed is divided by so much."""

MOVE = 4
"""Every so many queries a patch moves instead of changing."""

FAR = 0.75
"""How far it moves at first, as a share of the image."""

State = tuple[Tensor, Tensor]


@attack
class SparseRS:
    """Swap random pixels, or change and move a patch, and keep what lowers the margin; needs scores only (Croce et al.
    2022, arXiv:2006.12834).

    Pixels go to corners of the domain. queries: 5000; the paper goes to 10000, to which the schedule is scaled. share:
    the part of the pixels that is swapped at first, or of the patch that changes; 0.3 as in the paper for pixels.
    Unlike the released code, every row swaps pixels of its own, no pixel is sent to the value it has, patches reach
    the last row and column, and they start as stripes.
    """

    norms: ClassVar[tuple[str, ...]] = ("l0", "patch")
    access: ClassVar[Access] = Access.SCORES

    queries: Count = 5000
    share: Positive = 0.3

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a query."""
        moves: Moves = _moves(x0, threat, rng)
        best = moves.start()
        told = yield Ask(moves.image(best))
        loss = told.loss
        for query in range(1, self.queries):
            late = query / self.queries
            divisor = max(d for start, d in DIVISORS.items() if 10_000 * late > start)
            new = moves.change(best, min(1.0, self.share / divisor), query, late)
            told = yield Ask(moves.image(new))
            lower = told.loss < loss
            best = _better(new[0], best[0], lower), _better(new[1], best[1], lower)
            loss = torch.where(lower, told.loss, loss)


def _better(new: Tensor, old: Tensor, rows: Tensor) -> Tensor:
    return torch.where(rowwise(rows, new), new, old)


class Moves(Protocol):
    """What is searched over: states of two tensors [B, ...], and the inputs they stand for."""

    def start(self) -> State: ...

    def change(self, state: State, share: float, query: int, late: float) -> State: ...

    def image(self, state: State) -> Tensor: ...


def _moves(x0: Tensor, threat: Threat, rng: RowRandom) -> Moves:
    if isinstance(threat, Patch):
        return Placed(x0, threat, rng)
    assert isinstance(threat, L0)
    return Swaps(x0, threat, rng)


class Swaps:
    """As many pixels as are allowed, [B, P], and the edges to which all channels would go, [B, C, P] (true: upper)."""

    def __init__(self, x0: Tensor, threat: L0, rng: RowRandom) -> None:
        self.x0, self.threat, self.rng = x0, threat, rng
        self.maps = threat.maps(x0)
        self.pixels = self.maps[0, 0].numel()
        self.count = threat.count(self.maps).clamp(max=self.pixels).long().reshape(-1, 1).expand(len(x0), 1)

    def start(self) -> State:
        chosen = _first(self.rng.bits((self.pixels,)), self.count)
        return chosen, self._edges()

    def change(self, state: State, share: float, query: int, late: float) -> State:
        """Some pixels give way to others; where all are changed already, they get other values."""
        chosen, up = state
        outside = self.pixels - self.count
        swaps = (share * self.count).long().clamp(min=1).minimum(self.count)
        swaps = torch.where(outside > 0, swaps.minimum(outside), swaps)
        keys = self.rng.bits((self.pixels,)).clamp(min=1 - 2**63)
        away = _first(keys.masked_fill(~chosen, -(2**63)), swaps)
        into = _first(keys.masked_fill(chosen & (outside > 0), -(2**63)), swaps)
        return (chosen & ~away) | into, torch.where(into[:, None], self._edges(), up)

    def _edges(self) -> Tensor:
        """Random edges a pixel and channel, but not the value the pixel has."""
        low, high = self.threat.domain
        up = self.rng.bits((self.maps.shape[1], self.pixels)) & 1 == 1
        same = (torch.where(up, high, low) == flattened(self.maps, 2)).all(1, keepdim=True)
        return up ^ same

    def image(self, state: State) -> Tensor:
        low, high = self.threat.domain
        chosen, up = (part.reshape(len(part), -1, *self.maps.shape[2:]) for part in state)
        painted = torch.where(chosen, torch.where(up, high, low), self.maps)
        return self.threat.unmapped(painted.to(self.x0.dtype), self.x0)


def _first(keys: Tensor, count: Tensor) -> Tensor:
    """The `count` [B, 1] largest of keys [B, P]: bool [B, P]."""
    most = int(count.amax()) if len(count) else 0
    taken = torch.arange(most, device=keys.device) < count
    return torch.zeros_like(keys, dtype=torch.bool).scatter(1, keys.topk(most, dim=1).indices, taken)


class Placed:
    """Where the window's first row and column are, [B, 2], and its edges from there on, [B, C, H, W] (true: upper)."""

    def __init__(self, x0: Tensor, threat: Patch, rng: RowRandom) -> None:
        self.x0, self.threat, self.rng = x0, threat, rng
        self.maps = threat.maps(x0)
        self.size = torch.tensor(self.maps.shape[2:], device=x0.device)
        self.sides = threat.sides(self.maps)
        self.down, self.across = (torch.arange(n, device=x0.device) for n in self.maps.shape[2:])

    def start(self) -> State:
        """Vertical stripes at a random place."""
        place = self.rng.integers(self.size - self.sides + 1, (2,))
        stripes = self.rng.bits((self.maps.shape[1], 1, len(self.across))) & 1 == 1
        return place, stripes.expand(self.maps.shape)

    def change(self, state: State, share: float, query: int, late: float) -> State:
        """The window moves, or in a block of it every channel goes to an edge, later on one channel to the other."""
        place, up = state
        if query % MOVE == 0:
            reach = (FAR * (1 - late) * self.size).long().clamp(min=1)
            moved = place + self.rng.integers(2 * reach + 1, (2,)) - reach
            return torch.minimum(moved.clamp(min=0), self.size - self.sides), up
        block = (math.sqrt(share) * self.sides).round().long().clamp(min=1)
        first = self.rng.integers((self.sides - block + 1).clamp(min=1), (2,))
        changed = self._inside(first, block)
        channels = self.maps.shape[1]
        if late < 0.5:
            return place, torch.where(changed, self.rng.bits((channels, 1, 1)) & 1 == 1, up)
        one = self.rng.integers(channels)[:, None] == torch.arange(channels, device=up.device)
        return place, up ^ (changed & one[:, :, None, None])

    def _inside(self, first: Tensor, sides: Tensor) -> Tensor:
        """Windows [B, 1, H, W] of sides [B, 2] from first [B, 2] on."""
        down, across = (
            (n >= a[:, None]) & (n < (a + side)[:, None])
            for n, a, side in zip((self.down, self.across), first.T, sides.T, strict=True)
        )
        return down[:, None, :, None] & across[:, None, None, :]

    def image(self, state: State) -> Tensor:
        low, high = self.threat.domain
        place, up = state
        rows = (self.down - place[:, :1]).clamp(min=0)[:, None, :, None].expand(up.shape)
        columns = (self.across - place[:, 1:]).clamp(min=0)[:, None, None, :].expand(up.shape)
        moved = up.gather(2, rows).gather(3, columns)
        painted = torch.where(self._inside(place, self.sides), torch.where(moved, high, low), self.maps)
        return self.threat.unmapped(painted.to(self.x0.dtype), self.x0)
