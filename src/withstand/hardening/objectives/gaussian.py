"""Training under Gaussian noise."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from withstand.hardening.objective import Loss, Model, objective
from withstand.hardening.parts.noise import ForVote, noise
from withstand.hardening.state import State


@objective
class Gaussian(ForVote):
    """Cross-entropy of inputs with Gaussian noise, fresh in every step: the base of a model that `withstand smooth`
    certifies with the same sigma (Cohen et al. 2019, arXiv:1902.02918).

    The noise is added in the units of the data and nothing is clipped; the threat plays no part. sigma: standard
    deviation of the noise, 0.25, the least of the paper's. At 0 it is plain training.
    """

    norms: ClassVar[tuple[str, ...]] = ()

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The inputs with noise."""
        return x if self.sigma == 0 else x + noise(x, state, self.sigma, 1).squeeze(1)

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value = F.cross_entropy(model(at), y)
        return Loss(value, {"noisy": value.detach()})
