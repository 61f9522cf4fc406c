"""Fast adaptive boundary attack: project on the linearised boundary, with a pull towards the input."""

from collections.abc import Callable, Generator
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.hyperplane import onto
from withstand.attacks.parts.nearest import Best, nearest_plane, tighten, width
from withstand.attacks.parts.targeting import by_margin
from withstand.core.evidence import Ask, Told
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

OVERSHOOT = 1.05
PULL = 0.1  # largest share of the step that starts from the input
BACK = 0.9  # share of the way from the input that is kept after a violation
LAST = 3  # asks of the search along a line that ends the attack

Plane = Generator[Ask, Told, tuple[Tensor, Tensor]]


@attack
class FAB:
    """The nearest violation: project on the plane where the nearest class would take over if the model were linear,
    with a pull towards the input (Croce and Hein 2020, arXiv:1907.02044).

    steps: 100. targets: 9, or as many as there are: the classes of smallest margin among which each step takes the
    nearest plane; every one costs a backward pass a step. restarts: 1; further ones start from random points half as
    far as the nearest violation so far. Projections on plane and domain together are exact.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    targets: Count = 9
    restarts: Count = 1

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """Two asks a step: whether the point violates the property, and the slopes there."""

        def plane(x: Tensor, told: Told) -> Plane:
            told = yield Ask(x, grad=True, target=by_margin(told, self.targets))
            return nearest_plane(told, threat.norm)

        clean = yield Ask(x0)
        best = Best(threat, x0)
        for restart in range(self.restarts):
            start = restarted(best, rng) if restart else x0
            yield from walk(start, best, plane, self.steps)
        yield from tighten(best, clean.margin, LAST)


def restarted(best: Best, rng: RowRandom) -> Tensor:
    """Random points at most half as far from x0 as the threat's radius and the nearest violations."""
    threat, x0 = best.threat, best.x0
    radii = threat.radii(x0).flatten().expand(len(x0)).double()
    far = torch.minimum(best.distance, radii).clamp(max=width(threat))
    return threat.at(far / 2).sample(x0, rng)


def walk(x: Tensor, best: Best, plane: Callable[[Tensor, Told], Plane], steps: int, stage: int = 0) -> Search:
    """Steps of FAB from x; `plane` gives value [B] and slope of the linear function that is zero on the boundary."""
    threat, x0 = best.threat, best.x0
    for _ in range(steps):
        told = yield Ask(x, stage=stage)
        best.see(x, told.margin)
        x = torch.where(rowwise(told.margin <= 0, x), x0 + BACK * (x - x0), x)
        value, slope = yield from plane(x, told)
        fall = value + flattened(slope * (x0 - x)).sum(1)
        both = torch.cat([x, x0])
        moves = onto(threat.norm, both, torch.cat([slope, slope]), torch.cat([value, fall]), threat.domain)
        ahead, home = (both + OVERSHOOT * moves).chunk(2)
        far, back = threat.distance(both, both + moves).clamp(min=1e-8).to(x.dtype).chunk(2)
        pull = rowwise((far / (far + back)).clamp(max=PULL), x)
        x = (ahead + pull * (home - ahead)).clamp(*threat.domain)
    told = yield Ask(x, stage=stage)
    best.see(x, told.margin)
