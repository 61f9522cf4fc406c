"""SurFree: along arcs in random planes, without normals."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.frequency import smooth_noise
from withstand.attacks.parts.labels import Asking, Hunt, bisect, first_violation, length
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

WIDEST = math.pi / 6
"""The largest angle tried on either side."""

BISECTIONS = 6
"""Queries by which the best angle of an arc is searched."""


@attack
class Surfree:
    """In the plane of the input, a point on the boundary and a random direction, the points that a flat boundary would
    allow form a half circle: look along it, on both sides, for a violation nearer to the input, and search for its
    furthest end; needs labels only (Maho et al. 2021, arXiv:2011.12807).

    queries: at most so many a sample. share: of the waves of the cosine transform, lowest first, that the random
    directions are mixed from; half as in the paper (all where the image has at most 8 pixels a side). angles: tried on
    each side before a direction is given up, 1 where the paper tries several. The angle tried first halves where a
    direction fails and doubles where one succeeds; directions are normal to the change so far.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    access: ClassVar[Access] = Access.LABELS
    minimal: ClassVar[bool] = True

    queries: Count = 5000
    share: Positive = 0.5
    angles: Count = 1

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """A first violation; then an arc after another."""
        hunt = Hunt(x0, threat, self.queries)
        x = yield from first_violation(hunt, rng)
        x = yield from bisect(hunt, x, hunt.going, 12)
        widest = x.new_full((len(x),), WIDEST)
        while not hunt.over:
            arc = _Arc(hunt, x, smooth_noise(tuple(x.shape[1:]), min(1.0, self.share), 1, rng, x)[:, 0])
            side = torch.zeros_like(widest)
            for tried in range(2 * self.angles):
                sign = 1.0 if tried % 2 == 0 else -1.0
                angle = sign * widest * (1 - tried // 2 / self.angles)
                hit = yield from arc.try_at(angle, side == 0)
                side = torch.where(hit, angle, side)
            found = side != 0
            x = yield from arc.furthest(x, side)
            widest = torch.where(found, (2 * widest).clamp(max=WIDEST), (widest / 2).clamp(min=1e-4))


class _Arc:
    """The half circle through x0 and x in the plane of a direction."""

    def __init__(self, hunt: Hunt, x: Tensor, direction: Tensor) -> None:
        self.hunt, x0 = hunt, hunt.x0
        self.distance = length(x - x0, "l2").clamp(min=1e-12)
        self.unit = (x - x0) / rowwise(self.distance, x)
        along = flattened(direction * self.unit).double().sum(1).to(x.dtype)
        side = direction - rowwise(along, x) * self.unit
        self.side = side / rowwise(length(side, "l2").clamp(min=1e-12), x)

    def at(self, angle: Tensor) -> Tensor:
        """The points at an angle [B] from x, inside the domain."""
        cos, sin = (rowwise(part, self.unit) for part in (angle.cos(), angle.sin()))
        reach = rowwise(self.distance, self.unit) * cos
        return (self.hunt.x0 + reach * (cos * self.unit + sin * self.side)).clamp(*self.hunt.threat.domain)

    def try_at(self, angle: Tensor, rows: Tensor) -> Asking:
        """Whether the points at an angle violate and are nearer, at rows."""
        point = self.at(angle)
        nearer = length(point - self.hunt.x0, "l2") < self.distance
        hit = yield from self.hunt.ask(point, rows)
        return hit & nearer

    def furthest(self, x: Tensor, angle: Tensor) -> Asking:
        """Points at the largest angles that still violate, searched for between `angle` and thrice as much, at rows
        whose angle is not 0; x at the others."""
        rows = angle != 0
        low, high = angle, (3 * angle).clamp(-1.5, 1.5)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            hit = yield from self.try_at(middle, rows)
            low, high = torch.where(hit, middle, low), torch.where(hit, high, middle)
        return torch.where(rowwise(rows, x), self.at(low), x)
