"""GeoDA: the boundary as a plane, whose normal is estimated from labels."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.frequency import smooth_noise
from withstand.attacks.parts.labels import Asking, Hunt, bisect, first_violation, length
from withstand.attacks.parts.probing import points_an_ask, probe_width, several, total
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

CHUNK = 20
"""Numbers of probes are multiples of this."""


@attack
class GEODA:
    """Take the boundary for a plane, estimate its normal from the labels of random probes, and go from the input along
    it to the boundary; there estimate anew with more probes (Rahmati et al. 2020, arXiv:2003.06468).

    queries: at most so many a sample. share: of the waves of the cosine transform, lowest first, that probes are mixed
    from; a third is near the paper's 75 of 224 (all where the image has at most 8 pixels a side). sigma: deviation of
    the probes, as a share of the domain. growth: factor between the numbers of probes of one round and the next; the
    paper's best is near 1.5. rounds: among which the queries are divided.
    Unlike in the paper, each round adds its probes to half of what the rounds before it summed up, and a normal that
    leads to no nearer violation is not followed.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    access: ClassVar[Access] = Access.LABELS
    minimal: ClassVar[bool] = True

    queries: Count = 5000
    share: Positive = 0.35
    sigma: Positive = 0.002
    growth: Positive = 1.5
    rounds: Count = 8

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """A first violation; then a normal and the way to the boundary along it in each round."""
        hunt = Hunt(x0, threat, self.queries)
        x = yield from first_violation(hunt, rng)
        x = yield from bisect(hunt, x, hunt.going, 14)
        first = self.queries / sum(self.growth**i for i in range(self.rounds))
        slope = torch.zeros_like(x)
        for turn in range(10 * self.rounds):
            if hunt.over:
                break
            probes = first * self.growth ** min(turn, self.rounds - 1) - 30
            new = yield from self._slope(hunt, x, max(1, round(probes / CHUNK)), rng)
            slope = slope / 2 + new
            near = yield from _along(hunt, x, slope)
            x = torch.where(rowwise(length(near - x0, threat.norm) < length(x - x0, threat.norm), x), near, x)

    def _slope(self, hunt: Hunt, x: Tensor, chunks: int, rng: RowRandom) -> Asking:
        """The sum of probes, each with the sign of its label less the mean of all signs."""
        shape, width = tuple(x.shape[1:]), probe_width(hunt.threat, self.sigma)
        plain, signed, signs = torch.zeros_like(x), torch.zeros_like(x), x.new_zeros(len(x))
        part = points_an_ask(shape, CHUNK)
        for _ in range(chunks * CHUNK // part):
            u = smooth_noise(shape, min(1.0, self.share), part, rng, x)
            u = u * (math.sqrt(x[0].numel()) / several(length(u.flatten(0, 1), "l2").reshape(len(x), part), u))
            points = (x[:, None] + width * u).clamp(*hunt.threat.domain)
            hit = yield from hunt.ask(points)
            sign = torch.where(hit, 1.0, -1.0).to(x)
            plain, signed, signs = plain + total(u), signed + total(several(sign, u) * u), signs + sign.sum(1)
        mean = signs / (chunks * CHUNK // part * part)
        return signed - rowwise(torch.where(mean.abs() < 1, mean, 0.0), x) * plain


def _along(hunt: Hunt, x: Tensor, slope: Tensor) -> Asking:
    """The boundary from the input along a slope (its signs in linf): violations no further than four times the present
    distance, or x."""
    x0, norm = hunt.x0, hunt.threat.norm
    distance = length(x - x0, norm)
    unit = slope.sign() if norm == "linf" else slope / rowwise(length(slope, "l2").clamp(min=1e-12), x)
    new, done = x, ~hunt.going
    for factor in (1.0, 2.0, 4.0):
        point = (x0 + rowwise(factor * distance, x) * unit).clamp(*hunt.threat.domain)
        hit = yield from hunt.ask(point, ~done)
        new = torch.where(rowwise(hit, x), point, new)
        done = done | hit | ~hunt.going
    return (yield from bisect(hunt, new, hunt.going, 14))
