"""The momentum iterative fast gradient sign method."""

from typing import ClassVar

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise, vector_norm


@attack
class MIFGSM:
    """Fast gradient steps along the sum of all gradients so far, each of them scaled to length 1 in l1 (Dong et al.
    2018, arXiv:1710.06081). Under `--property not-class:CLASS` it is the targeted form.

    steps: 10, and decay: 1, the share of the sum that stays after a step, are the paper's. Steps are the radius divided
    by their number, as there. loss: margin, ce (the paper's) or dlr; margin does not saturate.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.GRADIENT

    steps: Count = 10
    decay: Positive = 1.0
    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""
        x, momentum = threat.start(x0), torch.zeros_like(threat.start(x0))
        for _ in range(self.steps):
            told = yield Ask(x, grad=True, loss=self.loss)
            assert told.grad is not None
            size = vector_norm(told.grad, 1).clamp(min=torch.finfo(x.dtype).tiny)
            momentum = self.decay * momentum + told.grad / rowwise(size, x)
            x = threat.project(x0, x - threat.radii(x) / self.steps * threat.steepest(momentum, x))
        yield Ask(x, loss=self.loss)
