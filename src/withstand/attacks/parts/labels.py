"""What attacks that see labels only share: counting queries, a first violation, the way back to the boundary."""

import math
from collections.abc import Generator

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Told
from withstand.core.rng import RowRandom
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

Asking = Generator[Ask, Told, Tensor]

STARTS = 100
"""Points tried for a first violation; rows where none of them is one end."""


class Hunt:
    """The rows of a search: how many queries each has left, and which go on.

    going: bool [B]; a row goes on until the runner says that it is over, it has no queries left, or the search has no
    further use for it.
    """

    def __init__(self, x0: Tensor, threat: Threat, queries: int) -> None:
        self.x0, self.threat = x0, threat
        self.left = torch.full((len(x0),), queries, dtype=torch.long, device=x0.device)
        self.going = torch.ones_like(self.left, dtype=torch.bool)

    @property
    def over(self) -> bool:
        """Whether no row goes on."""
        return not bool(self.going.any())

    def keep(self, rows: Tensor) -> None:
        """End all other rows."""
        self.going = self.going & rows

    def ask(self, x: Tensor, rows: Tensor | None = None) -> Asking:
        """Whether points x [B, *shape] or [B, P, *shape], moved into the domain, are violated: bool [B] or [B, P].

        Rows not asked about, and those that cannot pay for it, which end, have no violation.
        """
        several = x.dim() > self.x0.dim()
        cost = x.shape[1] if several else 1
        asked = self.going if rows is None else self.going & rows
        self.keep(~asked | (self.left >= cost))
        asked = asked & self.going
        if not bool(asked.any()):
            return torch.zeros(x.shape[: 2 if several else 1], dtype=torch.bool, device=x.device)
        told = yield Ask(x.clamp(*self.threat.domain), rows=asked)
        self.left = self.left - cost * asked
        self.keep(told.live)
        return told.margin <= 0


def first_violation(hunt: Hunt, rng: RowRandom) -> Asking:
    """A violating point for every row [B, *shape]; rows for which none is found end. Draws nothing from rng itself."""
    rng = rng.fork(0)
    x, found = hunt.x0.clone(), torch.zeros_like(hunt.going)
    for draw in range(STARTS):
        point = _far_point(hunt.x0, hunt.threat, rng, draw)
        hit = yield from hunt.ask(point, ~found)
        x = torch.where(rowwise(hit, x), point, x)
        found = found | hit
        if bool((found | ~hunt.going).all()):
            break
    hunt.keep(found)
    return x


def _far_point(x0: Tensor, threat: Threat, rng: RowRandom, draw: int) -> Tensor:
    """In turn: uniform noise, blocks of extreme values, the mirrored input in noise, one random value with noise."""
    low, high = edges(x0, threat)
    shape = tuple(x0.shape[1:])
    noise = low + (high - low) * rng.uniform(shape, x0.dtype)
    share = rowwise(rng.uniform((), x0.dtype), x0)
    kind = draw % 4
    if kind == 1:
        block = (4, 1, 2)[draw // 4 % 3]
        coarse = rng.signs(tuple(math.ceil(n / block) for n in shape), x0.dtype)
        for axis, n in enumerate(shape, 1):
            coarse = coarse.repeat_interleave(block, axis).narrow(axis, 0, n)
        return torch.where(coarse > 0, high, low)
    if kind == 2:
        return (1 - share) * (low + high - x0) + share * noise
    if kind == 3:
        value = low + (high - low) * rowwise(rng.uniform((), x0.dtype), x0)
        return (1 - share) * value + share * noise
    return noise


def edges(x0: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    """Lowest and highest values to search between, a row [B, 1, ...]: the domain's, or where it has no end a range that
    reaches ten times as far as the input does."""
    low, high = threat.domain
    size = 10 * rowwise(flattened(x0).abs().amax(1).clamp(min=1.0), x0)
    return (
        torch.full_like(size, low) if math.isfinite(low) else -size,
        torch.full_like(size, high) if math.isfinite(high) else size,
    )


def length(delta: Tensor, norm: str) -> Tensor:
    """The size of changes [B, ...] in l2 or linf, [B]; summed in double so that it does not depend on the batch."""
    p = math.inf if norm == "linf" else 2.0
    return torch.linalg.vector_norm(flattened(delta).double(), p, dim=1).to(delta.dtype)


def back(x0: Tensor, x: Tensor, share: Tensor, norm: str) -> Tensor:
    """x drawn back towards x0 until a share [B] of its distance is left: straight in l2, by clipping in linf."""
    delta, share = x - x0, rowwise(share, x)
    if norm == "linf":
        size = share * rowwise(length(delta, norm), x)
        return x0 + delta.clamp(-size, size)
    return x0 + share * delta


def bisect(hunt: Hunt, x: Tensor, rows: Tensor, steps: int) -> Asking:
    """Violating points x [B, *shape] drawn back to the boundary, by `steps` queries, at `rows`; still violating."""
    norm = hunt.threat.norm
    low, high = x.new_zeros(len(x)), x.new_ones(len(x))
    for _ in range(steps):
        middle = (low + high) / 2
        hit = yield from hunt.ask(back(hunt.x0, x, middle, norm), rows)
        high = torch.where(rows & hit, middle, high)
        low = torch.where(rows & ~hit, middle, low)
    return torch.where(rowwise(rows & (high < 1), x), back(hunt.x0, x, high, norm), x)
