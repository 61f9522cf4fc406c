"""The basic iterative method."""

from typing import ClassVar

from torch import Tensor

from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class BIM:
    """Fast gradient steps one after another from the clean input, each moved back into the threat (Kurakin et al. 2017,
    arXiv:1607.02533). Under `--property not-class:CLASS` it is the targeted form.

    steps: 10, and step: 0.125 of the radius, are the paper's rule at a radius of 8/255: steps of 1/255, and a quarter
    more of them than cross the radius. loss: margin, ce (the paper's) or dlr; margin does not saturate.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.GRADIENT

    steps: Count = 10
    step: Positive = 0.125
    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        x = threat.start(x0)
        for _ in range(self.steps):
            told = yield Ask(x, grad=True, loss=self.loss)
            assert told.grad is not None
            x = threat.project(x0, x - self.step * threat.radii(x) * threat.steepest(told.grad, x))
        yield Ask(x, loss=self.loss)
