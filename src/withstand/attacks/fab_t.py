"""Targeted fast adaptive boundary attack: one class at a time."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from withstand.attacks.fab import LAST, Plane, restarted, walk
from withstand.attacks.parts.nearest import Best, tighten
from withstand.attacks.parts.targeting import by_margin
from withstand.core.evidence import Ask, Told
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class FabT:
    """FAB towards one class at a time, in the order of their margins at the input, with one backward pass a step
    (Croce and Hein 2020, arXiv:1907.02044 and arXiv:2003.01690).

    steps: 100 for each. targets: 9, as in AutoAttack, or as many as there are. restarts: 1. Any violation counts, not
    only that of the target.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    targets: Count = 9
    restarts: Count = 1

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """Two asks a step: whether the point violates the property, and the slope towards the target there."""
        clean = yield Ask(x0)
        best = Best(threat, x0)
        for target in by_margin(clean, self.targets).unbind(1):
            for restart in range(self.restarts):
                start = restarted(best, rng) if restart else x0
                yield from walk(start, best, toward(target), self.steps)
        yield from tighten(best, clean.margin, LAST)


def toward(target: Tensor, stage: int = 0) -> Callable[[Tensor, Told], Plane]:
    """The plane where the margin of one target [B] would be zero."""

    def plane(x: Tensor, told: Told) -> Plane:
        told = yield Ask(x, grad=True, target=target, stage=stage)
        assert told.grad is not None
        return told.loss, told.grad

    return plane
