"""Square Attack: random search over square patches."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from withstand.core.evidence import Ask
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
PLANNED = 10_000
"""Queries after which the patch's share of the image halves, of the paper's so many."""


@attack
class Square:
    """Change a random square patch and keep what lowers the margin; needs scores only (Andriushchenko et al. 2020,
    arXiv:1912.00049; in l1 as Croce and Hein 2021, arXiv:2103.01208).

    queries: 5000, as in AutoAttack. share: the patch's share of the image at the start; 0.8 as in AutoAttack.
    stretched: whether the patch shrinks as far in these queries as in the paper's 10,000, as in the paper; AutoAttack
    does not.
    Unlike the released code, every row has positions and signs of its own, and patches reach the last row and column.
    An input of shape [d] is an image of one row; further axes in front of the last two are channels.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.SCORES

    queries: Count = 5000
    share: Positive = 0.8
    stretched: bool = True

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a query."""
        power = {"l1": 1, "l2": 2}.get(threat.norm)
        moves = Edges(x0, threat, rng) if power is None else Mass(x0, threat, rng, power)
        best = moves.start()
        told = yield Ask(moves.point(best))
        loss = told.loss
        pace = PLANNED / self.queries if self.stretched else 1.0
        for query in range(1, self.queries):
            new = moves.change(best, min(1.0, self.share / 2 ** sum(query * pace > limit for limit in HALVINGS)))
            told = yield Ask(moves.point(new))
            lower = told.loss < loss
            best = torch.where(rowwise(lower, best), new, best)
            loss = torch.where(lower, told.loss, loss)


def as_images(x: Tensor) -> Tensor:
    """x [B, *shape] as images [B, channels, height, width]."""
    *channels, height, width = (1, 1, *x.shape[1:])
    return x.reshape(len(x), math.prod(channels), height, width)


def patch_size(share: float, height: int, width: int, least: int = 1) -> tuple[int, int]:
    """Height and width of a patch with that share of the area: a square of at least `least`, if the image is as high
    and wide, else as much of the shorter side as there is."""
    side = max(least, round(math.sqrt(share * height * width)))
    if side > height:
        return height, max(1, min(width, round(share * width)))
    if side > width:
        return max(1, min(height, round(share * height))), width
    return side, side


class Deck:
    """Uniform numbers for a query, `count` a row, drawn for many queries at once."""

    AHEAD = 64

    def __init__(self, rng: RowRandom, count: int) -> None:
        self.rng, self.count = rng, count
        self.held: list[Tensor] = []

    def deal(self) -> Tensor:
        """The next query's: float64 [B, count] in [0, 1)."""
        if not self.held:
            self.held = list(self.rng.uniform((self.AHEAD, self.count), torch.float64).unbind(1))
        return self.held.pop()


@dataclass
class Window:
    """A patch of one size at a place of its own in every row: offsets `down` and `across` [B]."""

    down: Tensor
    across: Tensor
    size: tuple[int, int]

    @classmethod
    def at(cls, places: Tensor, size: tuple[int, int], images: Tensor) -> "Window":
        """At places [B, 2] in [0, 1), of which 1 is past the last row and column."""
        height, width = images.shape[2:]
        free = places.new_tensor([height - size[0] + 1, width - size[1] + 1])
        down, across = (places * free).long().unbind(1)
        return cls(down, across, size)

    def _offsets(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = (torch.arange(n, device=images.device) for n in images.shape[2:])
        return height - self.down[:, None], width - self.across[:, None]

    def mask(self, images: Tensor) -> Tensor:
        """Whether each pixel lies in the patch: bool [B, 1, height, width]."""
        rows, columns = ((at >= 0) & (at < n) for at, n in zip(self._offsets(images), self.size))
        return rows[:, None, :, None] & columns[:, None, None, :]

    def paint(self, pictures: Tensor, choice: Tensor, images: Tensor) -> Tensor:
        """The patch's pixels from pictures [N, *size], one chosen a row: [B, 1, height, width], senseless outside."""
        rows, columns = (at.clamp(0, n - 1) for at, n in zip(self._offsets(images), self.size))
        return pictures[choice[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


class Edges:
    """Moves for linf and boxes, whose points lie at edges of the threat: a patch goes to the upper or the lower edge, a
    sign a channel; to the other one where it lies there already, as in the paper.

    The state of a search is which pixels are at the upper edge: bool [B, channels, height, width].
    """

    def __init__(self, x0: Tensor, threat: Threat, rng: RowRandom) -> None:
        self.low, self.high = (threat.project(x0, edge) for edge in threat.box(x0))
        self.images, self.rng = as_images(x0), rng
        self.deck = Deck(rng, 2 + self.images.shape[1])

    def start(self) -> Tensor:
        """Vertical stripes."""
        _, channels, height, width = self.images.shape
        return (self.rng.signs((channels, 1, width)) > 0).expand(-1, -1, height, -1)

    def point(self, upper: Tensor) -> Tensor:
        """The point [B, *shape] of a state."""
        return torch.where(upper.reshape(self.low.shape), self.high, self.low)

    def change(self, upper: Tensor, share: float) -> Tensor:
        """The state with one patch changed."""
        drawn = self.deck.deal()
        mask = Window.at(drawn[:, :2], patch_size(share, *upper.shape[2:]), upper).mask(upper)
        up = (drawn[:, 2:] < 0.5)[:, :, None, None]
        there = ~flattened(mask & (upper ^ up)).any(1)
        return torch.where(mask, up ^ there[:, None, None, None], upper)


class Mass:
    """Moves for l1 and l2: the change inside two patches, and what is left of the radius, gathers in the first of them
    as a pair of pyramids of opposite signs added to the old shape. `power` is the norm's exponent.

    Images less than three pixels high or wide have patches down to single pixels, which replace the old value, and the
    second patch keeps a random part of its change: with so few pixels, all or nothing would miss most directions.
    """

    def __init__(self, x0: Tensor, threat: Threat, rng: RowRandom, power: int) -> None:
        self.x0, self.threat, self.rng, self.power = x0, threat, rng, power
        self.images = as_images(x0)
        self.deck = Deck(rng, 5)

    def point(self, best: Tensor) -> Tensor:
        """The point [B, *shape] of a state, which is the point as images."""
        return best.reshape(self.x0.shape)

    def _full(self, delta: Tensor) -> Tensor:
        """The point of the threat in direction delta, at full radius before it meets the domain."""
        delta = delta * (self.threat.radii(delta) / self._norm(delta, (1, 2, 3)).clamp(min=1e-12))
        return as_images(self.threat.project(self.x0, self.x0 + delta.reshape(self.x0.shape)))

    def _norm(self, delta: Tensor, axes: tuple[int, ...]) -> Tensor:
        return torch.linalg.vector_norm(delta, self.power, dim=axes, keepdim=True)

    def start(self) -> Tensor:
        """About five by five tiles, each with a pair of pyramids, a sign a tile and channel."""
        _, channels, height, width = self.images.shape
        tall, wide = max(1, height // 5), max(1, width // 5)
        down, across = math.ceil(height / tall), math.ceil(width / wide)
        tiles = pyramids(tall, wide, self.power).to(self.images)[0].repeat(down, across)
        signs = self.rng.signs((channels, down, across), self.images.dtype)
        signs = signs.repeat_interleave(tall, 2).repeat_interleave(wide, 3)
        return self._full((tiles * signs)[..., :height, :width])

    def change(self, best: Tensor, share: float) -> Tensor:
        """`best` with mass moved from the second patch to the first."""
        _, channels, height, width = best.shape
        narrow = min(height, width) < 3
        size = patch_size(share, height, width, least=1 if narrow else 3)
        drawn = self.deck.deal()
        first, second = (Window.at(places, size, best) for places in (drawn[:, :2], drawn[:, 2:4]))
        pictures = pyramids(*size, self.power).to(best)
        shape = first.paint(pictures, (drawn[:, 4] * len(pictures)).long(), best)
        delta = best - self.images
        into, out = first.mask(best), second.mask(best)
        rest = delta.masked_fill(into, 0.0)
        rest = torch.where(out, rest * self.rng.uniform((1, 1, 1), best.dtype) if narrow else 0.0, rest)
        free = (self.threat.radii(delta) ** self.power - self._norm(rest, (1, 2, 3)) ** self.power).clamp(min=0)
        new = shape * self.rng.signs((channels, 1, 1), best.dtype)
        if size != (1, 1):
            new = new + delta / self._norm(delta * into, (2, 3)).clamp(min=1e-12)
        new = new * into
        new = new * ((free / channels) ** (1 / self.power) / self._norm(new, (2, 3)).clamp(min=1e-12))
        return self._full(rest + new)


@lru_cache(maxsize=64)
def pyramids(height: int, width: int, power: int) -> Tensor:
    """Two pyramids of opposite signs side by side, of norm 1: pictures [N, height, width] to choose from, one a
    direction for squares, else one along the longer side."""
    if height * width == 1:
        return torch.ones(1, 1, 1)
    if height < width:
        return pyramids(width, height, power).mT
    half = height // 2
    halves = _pyramid(half, width), -_pyramid(height - half, width)
    pair = torch.cat([h / torch.linalg.vector_norm(h, power) for h in halves])
    pair = pair / torch.linalg.vector_norm(pair, power)
    return torch.stack([pair, pair.mT]) if height == width else pair[None]


def _pyramid(height: int, width: int) -> Tensor:
    """Heights that fall from the middle, ring by ring, by 1, 1/4, 1/9 and so on."""
    rows, columns = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    ring = torch.maximum(rows[:, None], columns)
    steps = 1 / torch.arange(1, int(ring.max()) + 2) ** 2
    return steps.flip(0).cumsum(0).flip(0)[ring]
