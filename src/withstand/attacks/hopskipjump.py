"""HopSkipJump: along the boundary on normals estimated from labels."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.labels import Asking, Hunt, bisect, first_violation, length
from withstand.attacks.parts.probing import points_an_ask, several, span, total
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

HALVINGS = 15
"""Halvings of a step before a row stays where it is."""

CHUNK = 25
"""Numbers of probes are multiples of this, so that a row's last queries go to probes, too."""

TRIES = 4
"""Queries kept for the last step, besides those that draw it back."""

LEAP = 2.0
"""How many times the paper's is the first step tried along a normal: its own is short where the boundary is flat."""

LATE, SHORTER = 6, 4
"""From so many normals on, a step so many times shorter than the one that violated is tried, too."""

MEMORY = 0.5
"""Share of the old normal's sum of probes that is added to the new one's."""


@attack
class Hopskipjump:
    """From a point on the boundary, estimate the boundary's normal from the labels of random probes, step along it and
    go straight back to the boundary; needs labels only (Chen et al. 2020, arXiv:1904.02144).

    queries: at most so many a sample. probes: of the first normal, 100 as in the paper; later ones get the square root
    of the step's number times as many. width: of the probes, in distances from the input divided by the input's size
    (never more than a tenth of the distance).

    Unlike the paper, half of the sum of the probes before is added to each new one, steps are tried at twice the
    length and later on at two lengths, which made medians on an undefended MNIST network smaller; probes are 30 times
    as wide, well above the rounding of float32, which leaves shorter ways to search for the boundary; and the last
    normal takes the queries there are.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    access: ClassVar[Access] = Access.LABELS
    minimal: ClassVar[bool] = True

    queries: Count = 5000
    probes: Count = 100
    width: Positive = 30.0

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """A first violation; then normals, steps and bisections in turn."""
        hunt, size = Hunt(x0, threat, self.queries), x0[0].numel()
        x = yield from first_violation(hunt, rng)
        share = min(0.1, self.width / size)
        precision = share / (size**0.5 if threat.norm == "l2" else size)
        halvings = max(10, math.ceil(-math.log2(precision)))
        x = yield from bisect(hunt, x, hunt.going, halvings)
        slope, turn = torch.zeros_like(x), 0
        while not hunt.over:
            turn += 1
            distance = length(x - x0, threat.norm)
            width = share * distance if turn > 1 else torch.full_like(distance, 0.1 * span(threat))
            if threat.levels:
                width = width.clamp(min=math.sqrt(size) * threat.grain)
            new = yield from _slope(hunt, x, width, round(self.probes * math.sqrt(turn)), halvings + TRIES, rng)
            slope = MEMORY * slope + new
            normal = slope.sign()
            if threat.norm == "l2":
                normal = slope / rowwise(length(slope, "l2").clamp(min=1e-12), x)
            far = LEAP * distance / math.sqrt(turn)
            x = yield from _jump(hunt, x, normal, far, halvings, shorter=turn >= LATE)


def _slope(hunt: Hunt, x: Tensor, width: Tensor, probes: int, kept: int, rng: RowRandom) -> Asking:
    """The direction of violation: the sum of unit directions, each with the sign of its probe's label less the mean of
    all signs. Rows keep `kept` queries; those that have none to spare end."""
    shape = tuple(x.shape[1:])
    plain, signed = torch.zeros_like(x), torch.zeros_like(x)
    chunk = points_an_ask(shape, CHUNK)
    signs, count = torch.zeros_like(width), torch.zeros_like(width)
    for _ in range(max(1, round(probes / chunk))):
        rows = hunt.going & (hunt.left >= chunk + kept)
        if not bool(rows.any()):
            break
        u = rng.normal((chunk, *shape), x.dtype)
        wide = several(width[:, None] / length(u.flatten(0, 1), "l2").reshape(len(x), chunk), u)
        points = (x[:, None] + wide * u).clamp(*hunt.threat.domain)
        u = (points - x[:, None]) / several(width[:, None], u)
        hit = yield from hunt.ask(points, rows)
        sign = torch.where(hit, 1.0, -1.0).to(x) * rows[:, None]
        plain, signed = plain + total(several(rows[:, None].to(x), u) * u), signed + total(several(sign, u) * u)
        signs, count = signs + sign.sum(1), count + chunk * rows
    hunt.keep(count > 0)
    mean = signs / count.clamp(min=1)
    return signed - rowwise(torch.where(mean.abs() < 1, mean, 0.0), x) * plain


def _jump(hunt: Hunt, x: Tensor, normal: Tensor, far: Tensor, halvings: int, shorter: bool) -> Asking:
    """The longest step along the normal, halved from `far` down, that violates, drawn back to the boundary; or a
    shorter one, if that comes nearer."""
    new, done, step = x, ~hunt.going, far
    for _ in range(HALVINGS):
        point = (x + rowwise(far, x) * normal).clamp(*hunt.threat.domain)
        hit = yield from hunt.ask(point, ~done)
        new, step = torch.where(rowwise(hit, x), point, new), torch.where(hit, far, step)
        done, far = done | hit | ~hunt.going, far / 2
    new = yield from bisect(hunt, new, hunt.going, halvings)
    if shorter:
        point = (x + rowwise(step / SHORTER, x) * normal).clamp(*hunt.threat.domain)
        hit = yield from hunt.ask(point)
        point = yield from bisect(hunt, point, hit, halvings)
        nearer = hit & (length(point - hunt.x0, hunt.threat.norm) < length(new - hunt.x0, hunt.threat.norm))
        new = torch.where(rowwise(nearer, x), point, new)
    return new
