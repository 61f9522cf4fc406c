"""Stability training: the answer under Gaussian noise stays that of the clean input."""

from typing import ClassVar

from torch import Tensor, nn

from withstand.core.registry import NonNegative
from withstand.hardening.objective import Loss, Model, objective
from withstand.hardening.parts.divergence import divergence
from withstand.hardening.parts.labelled import labelled_cross_entropy
from withstand.hardening.parts.noise import ForVote, noise
from withstand.hardening.state import State


@objective
class Stability(ForVote):
    """Cross-entropy of the clean inputs plus beta times the divergence of the model's answers under Gaussian noise from
    those there (Zheng et al. 2016, arXiv:1604.04326): TRADES with noise in place of an attack, as in the code of Carmon
    et al. 2019 (arXiv:1905.13736), and another base for `withstand smooth`.

    Rows without a label (y = -1) count in the second part only; the threat plays no part. sigma: standard deviation of
    the noise, fresh in every step and not clipped, 0.25. beta: 6, that of TRADES; at 0 it is plain training.
    """

    norms: ClassVar[tuple[str, ...]] = ()
    unlabelled = True

    beta: NonNegative = 6.0

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The inputs with noise."""
        return x if self.sigma == 0 or self.beta == 0 else x + noise(x, state, self.sigma, 1).squeeze(1)

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        outputs = model(x)
        clean = labelled_cross_entropy(outputs, y)
        if at is x:
            return Loss(clean, {"clean": clean.detach()})
        moved = divergence(outputs, model(at)).mean()
        return Loss(clean + self.beta * moved, {"clean": clean.detach(), "divergence": moved.detach()})
