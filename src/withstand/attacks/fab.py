"""Fast adaptive boundary attack: project on the linearised boundary, with a pull towards the input."""

from collections.abc import Callable, Generator
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.hyperplane import onto
from withstand.attacks.parts.nearest import DUAL, Nearest, length, tighten, width
from withstand.attacks.parts.targeting import by_margin
from withstand.core.evidence import Ask, Told
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
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
            assert told.grad is not None
            size = length(told.grad.flatten(0, 1), DUAL[threat.norm]).reshape(told.loss.shape)
            near = (told.loss.abs() / size).nan_to_num(torch.inf).argmin(1)
            rows = torch.arange(len(x), device=x.device)
            return told.loss[rows, near], told.grad[rows, near]

        clean = yield Ask(x0)
        nearest = Nearest(threat, x0)
        for restart in range(self.restarts):
            start = restarted(nearest, rng) if restart else x0
            yield from walk(start, nearest, plane, self.steps)
        yield from tighten(x0, nearest, clean.margin, LAST)


def restarted(nearest: Nearest, rng: RowRandom) -> Tensor:
    """Random points at most half as far from x0 as the threat's radius and the nearest violations."""
    threat, x0 = nearest.threat, nearest.x0
    radii = threat.radii(x0).flatten().expand(len(x0)).double()
    far = torch.minimum(nearest.distance, radii).clamp(max=width(threat))
    return threat.at(far / 2).sample(x0, rng)


def walk(x: Tensor, nearest: Nearest, plane: Callable[[Tensor, Told], Plane], steps: int) -> Search:
    """Steps of FAB from x; `plane` gives value [B] and slope of the linear function that is zero on the boundary."""
    threat, x0 = nearest.threat, nearest.x0
    for _ in range(steps):
        told = yield Ask(x)
        nearest.see(x, told.margin)
        x = torch.where(rowwise(told.margin <= 0, x), x0 + BACK * (x - x0), x)
        value, slope = yield from plane(x, told)
        fall = value + (slope * (x0 - x)).flatten(1).sum(1)
        both = torch.cat([x, x0])
        moves = onto(threat.norm, both, torch.cat([slope, slope]), torch.cat([value, fall]), threat.domain)
        ahead, home = (both + OVERSHOOT * moves).chunk(2)
        far, back = threat.distance(both, both + moves).clamp(min=1e-8).to(x.dtype).chunk(2)
        pull = rowwise((far / (far + back)).clamp(max=PULL), x)
        x = (ahead + pull * (home - ahead)).clamp(*threat.domain)
    told = yield Ask(x)
    nearest.see(x, told.margin)
