"""Certified training by interval bounds."""

from typing import Annotated, ClassVar

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.hardening.objective import Loss, Objective, objective
from withstand.hardening.parts.certified import bounded, box, worst_case
from withstand.hardening.parts.live import statistics
from withstand.hardening.state import State


@objective
class IBP(Objective):
    """(Gowal et al. 2018, arXiv:1810.12715).
    """

    norms: ClassVar[tuple[str, ...]] = ("linf",)

    clean: Annotated[float, Ge(0), Le(1)] = 0.5

    def loss(self, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:  # type: ignore[override]
        share = 1 - (1 - self.clean) * state.ramp
        with statistics(model) as given:
            natural = F.cross_entropy(model(x), y)
        if share == 1:
            return Loss(natural, {"clean": natural.detach()})
        robust = worst_case(bounded(model, box(state.now, x), given).margins(y))
        return Loss(share * natural + (1 - share) * robust, {"clean": natural.detach(), "worst": robust.detach()})
