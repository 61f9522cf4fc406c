"""The fast gradient (sign) method."""

from typing import ClassVar

from torch import Tensor

from withstand.core.evidence import Ask, Loss
from withstand.core.registry import attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class FGSM:
    """One steepest step of the full radius from the clean input (Goodfellow et al. 2015, arXiv:1412.6572).

    It goes where the linearised loss is least over threat and domain together, so it is exact on linear models: the
    sign method in linf, the fast gradient method in l2 and l1, with no length wasted on coordinates without room.
    loss: margin, ce (the paper's) or dlr; margin does not saturate.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0", "patch", "box")
    access: ClassVar[Access] = Access.GRADIENT

    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask with a gradient, one without."""
        told = yield Ask(x0, grad=True, loss=self.loss)
        assert told.grad is not None
        yield Ask(threat.extreme(x0, told.grad), loss=self.loss)
