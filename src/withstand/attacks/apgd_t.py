"""Targeted Auto-PGD: one walk for each of the nearest targets."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.parts.targeting import by_margin
from withstand.attacks.parts.walks import halving_walk, sparse_walk
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class ApgdT:
    """Auto-PGD towards each of the classes that score highest at the clean input, in turn (Croce and Hein 2020,
    arXiv:2003.01690).

    targets: 9, as in AutoAttack, or as many as there are. steps: 100 for each. loss: dlr as in AutoAttack, ce or
    margin. Any violation counts, not only that of the target.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.GRADIENT

    steps: Count = 100
    targets: Count = 9
    loss: Loss = "dlr"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask at the clean input, then one for the start and one a step, for every target."""
        told = yield Ask(threat.start(x0))
        order = by_margin(told, self.targets)
        walk = sparse_walk if threat.norm == "l1" else halving_walk
        for target in order.unbind(1):
            start = threat.sample(x0, rng)
            yield from walk(x0, threat, self.steps, Ask(start, loss=self.loss, target=target))
