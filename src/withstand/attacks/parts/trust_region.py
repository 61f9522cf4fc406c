"""The point of a plane nearest to the input that a short step reaches, for many rows at once."""

import math

import torch
from torch import Tensor

from withstand.attacks.parts.hyperplane import onto
from withstand.attacks.parts.nearest import length
from withstand.core.shapes import flattened
from withstand.core.threat import vector_norm

TRADES = 12
"""Rounds by which the trade between step and distance is found: their error shrinks faster than by halves."""

UNUSED = 0.02
"""The share of the squared length left for steps within the plane that need not be used."""

ROUNDS = 40
"""Rounds of Newton's method on the plane at most; a handful do."""

EXACT = 1e-5
"""How far from the plane a point may be, as a share of the longest step."""


def shortest(
    norm: str, x0: Tensor, x: Tensor, slope: Tensor, fall: Tensor, radius: Tensor, domain: tuple[float, float]
) -> Tensor:
    """The step d from x [B, *shape], no longer in l2 than radius [B], after which x + d is nearest to x0 in `norm`
    (linf, l2 or l1) of all points of the domain on the plane slope . d = -fall [B].

    Where no step reaches the plane, d is one straight towards its point nearest to x.
    """
    normal = flattened(slope)
    size = length(normal, 2)
    normal, fall = normal / size[:, None], fall / size
    start = flattened(x - x0)
    level = (normal * start).sum(1) - fall
    plane = normal.reshape(x.shape)
    near = start + flattened(onto("l2", x, plane, fall, domain))
    best = flattened(onto(norm, x0, plane, -level, domain))
    aim = _Aim(norm, normal, level, start, near, best, radius, (domain[0] - flattened(x0), domain[1] - flattened(x0)))
    step = aim.traded() - start
    return (step * (radius / length(step, 2)).clamp(max=1)[:, None]).reshape(x.shape)


class _Aim:
    """Points u [B, d], counted from the input, on the planes normal . u = level within `ends` of every coordinate.

    near, best: those nearest to where the step starts, and to the input. The points between them are, by a multiplier
    for the length of the step, solutions of a problem with the plane alone: in l2 the projection of a part of `start`;
    in linf that of `start` with all coordinates cut at some size; in l1 that of `start` with all coordinates drawn
    towards zero by some amount.
    """

    def __init__(
        self,
        norm: str,
        normal: Tensor,
        level: Tensor,
        start: Tensor,
        near: Tensor,
        best: Tensor,
        radius: Tensor,
        ends: tuple[Tensor, Tensor],
    ) -> None:
        self.norm, self.normal, self.level, self.start = norm, normal, level, start
        self.near, self.best, self.radius, self.ends = near, best, radius, ends
        self.widest = vector_norm(near, math.inf)[:, None]
        self.least = vector_norm(best, math.inf)[:, None]
        self.pull = radius.new_zeros(len(radius))

    def traded(self) -> Tensor:
        """The point nearest to the input within the radius of the start, by the rule of false position."""
        inner, outer = torch.zeros_like(self.radius), torch.ones_like(self.radius)
        under, over = self._excess(self.near), self._excess(self.best)
        kept, before = torch.where((over <= 0)[:, None], self.best, self.near), None
        open_, unused = (under < 0) & (over > 0), -UNUSED * under
        for _ in range(TRADES):
            if not bool(open_.any()):
                break
            part = (under / (under - over)).nan_to_num(0.5).clamp(0, 1)
            share = inner + (outer - inner) * part
            u = self._between(share[:, None], open_)
            excess = self._excess(u)
            short = excess <= 0
            kept = torch.where((short & open_)[:, None], u, kept)
            open_ = open_ & (~short | (excess < -unused))
            inner, outer = torch.where(short, share, inner), torch.where(short, outer, share)
            idle = torch.ones_like(share) if before is None else torch.where(before == short, 0.5, 1.0).to(share)
            under, over = torch.where(short, excess, under * idle), torch.where(short, over * idle, excess)
            before = short
        return kept

    def _excess(self, u: Tensor) -> Tensor:
        """By how much the squared length of the step to u is more than allowed: [B]."""
        return (u - self.start).square().sum(1) - self.radius**2

    def _between(self, share: Tensor, rows: Tensor) -> Tensor:
        """The point on the plane for a share [B, 1] from 0, `near`, to 1, `best`; of use for `rows` only."""
        low, high = self.ends
        zero = torch.zeros_like(share)
        if self.norm == "l2":
            return self._on_plane((1 - share) * self.start, zero, (low, high), rows)
        if self.norm == "linf":
            size = self.widest + share * (self.least - self.widest)
            return self._on_plane(self.start, zero, (torch.maximum(low, -size), torch.minimum(high, size)), rows)
        drawn = self.radius[:, None] / self.start.shape[1] ** 0.5 * share / (1 - share).clamp(min=1e-6)
        return self._on_plane(self.start, drawn, (low, high), rows)

    def _on_plane(self, point: Tensor, drawn: Tensor, ends: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
        """The points of the plane that `point` reaches along the normal, drawn towards zero and cut at the ends:
        Newton's method between the nearest points known on either side, from the last solution on."""
        (low, high), pull = ends, self.pull
        below, above = torch.full_like(pull, -math.inf), torch.full_like(pull, math.inf)
        enough = EXACT * self.radius + 4 * torch.finfo(pull.dtype).eps * length(self.start, 2)
        reach = self.radius + drawn[:, 0]
        for i in range(ROUNDS):
            moved = point + pull[:, None] * self.normal
            shrunk = moved - moved.clamp(-drawn, drawn)
            u = torch.minimum(torch.maximum(shrunk, low), high)
            miss = (self.normal * u).sum(1) - self.level
            open_ = rows & (miss.abs() > enough)
            if not bool(open_.any()):
                break
            above, below = torch.where(miss > 0, pull, above), torch.where(miss < 0, pull, below)
            free = (u == shrunk) & (moved.abs() >= drawn)
            newton = pull - miss / (self.normal.square() * free).sum(1)
            halved = (below + above) / 2
            beyond = pull - miss.sign() * reach * 2.0**i
            safe = torch.where(halved.isfinite(), halved, beyond)
            inside = (newton > below) & (newton < above) & (i % 4 < 3 or ~halved.isfinite())
            pull = torch.where(open_, torch.where(inside, newton, safe), pull)
        self.pull = pull.nan_to_num(0.0, 0.0, 0.0)
        return u
