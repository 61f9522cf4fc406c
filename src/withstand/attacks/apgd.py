"""Auto-PGD: projected gradient descent that chooses its own step length."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.parts.walks import halving_walk, sparse_walk
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class APGD:
    """Momentum steps whose length halves, row by row, when progress stalls; then the row goes back to its best point
    (Croce and Hein 2020, arXiv:2003.01690). In l1, steps on few coordinates whose number adapts (Croce and Hein 2021,
    arXiv:2103.01208).

    steps: 100, as in AutoAttack. loss: margin, ce or dlr (AutoAttack runs ce and dlr; margin fits every property).
    restarts: random starts. Unlike the released code, the first window compares with the loss at the start, and
    momentum ends when a row goes back to its best point.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0", "patch", "box", "flow", "flow+linf")
    access: ClassVar[Access] = Access.GRADIENT

    steps: Count = 100
    loss: Loss = "margin"
    restarts: Count = 1

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask for the start and one a step, for every restart."""
        for _ in range(self.restarts):
            if threat.norm == "l1":
                start = threat.project(x0, x0 + rng.normal(x0.shape[1:], x0.dtype))
                yield from sparse_walk(x0, threat, self.steps, Ask(start, loss=self.loss))
            else:
                yield from halving_walk(x0, threat, self.steps, Ask(threat.sample(x0, rng), loss=self.loss))
