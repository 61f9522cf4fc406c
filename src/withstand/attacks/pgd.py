"""Projected gradient descent."""

from typing import ClassVar

from torch import Tensor

from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class PGD:
    """Walk downhill on a loss and step back into the threat, from random starts (Madry et al. 2018, arXiv:1706.06083).

    steps: 40, the paper's number for MNIST. step: length of a step as a fraction of the radius; the default 0.1 lets
    40 steps cross the ball four times. restarts: random starts. loss: margin, ce or dlr; margin does not saturate.
    start: begin at a random point of the threat (false: the first start is the clean input).
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0", "patch", "box", "flow", "spatial", "flow+linf")
    access: ClassVar[Access] = Access.GRADIENT

    steps: Count = 40
    step: Positive = 0.1
    restarts: Count = 1
    loss: Loss = "margin"
    start: bool = True

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        for restart in range(self.restarts):
            x = threat.sample(x0, rng) if self.start or restart else threat.start(x0)
            for _ in range(self.steps):
                told = yield Ask(x, grad=True, loss=self.loss)
                assert told.grad is not None
                x = threat.project(x0, x - self.step * threat.radii(x) * threat.steepest(told.grad, x))
            yield Ask(x, loss=self.loss)
