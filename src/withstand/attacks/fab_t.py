"""Targeted fast adaptive boundary attack: one class at a time."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.fab import LAST, Plane, restarted, walk
from withstand.attacks.parts.nearest import Nearest, tighten
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
        nearest = Nearest(threat, x0)
        for target in by_margin(clean, self.targets).unbind(1):

            def plane(x: Tensor, told: Told, target: Tensor = target) -> Plane:
                told = yield Ask(x, grad=True, target=target)
                assert told.grad is not None
                return told.loss, told.grad

            for restart in range(self.restarts):
                start = restarted(nearest, rng) if restart else x0
                yield from walk(start, nearest, plane, self.steps)
        yield from tighten(x0, nearest, clean.margin, LAST)
