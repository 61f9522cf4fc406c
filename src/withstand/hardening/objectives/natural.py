"""Plain training."""

from typing import Annotated, ClassVar

import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from withstand.hardening.objective import Judge, Loss, Model, Objective, objective
from withstand.hardening.state import State


@objective
class Natural(Objective):
    """Cross-entropy of the clean inputs: the baseline that a hardened model is compared with.

    Reference: I. Goodfellow, Y. Bengio and A. Courville, Deep Learning, section 6.2.2, MIT Press, 2016. smoothing: the
    share of a label's mass that is spread over all classes (0: none).
    """

    norms: ClassVar[tuple[str, ...]] = ()
    judged_by: ClassVar[Judge] = "clean"
    natural_at_zero = True

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value = F.cross_entropy(model(x), y, label_smoothing=self.smoothing)
        return Loss(value, {"clean": value.detach()})
