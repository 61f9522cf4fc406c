"""Certified training by linear bounds over interval bounds."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.hardening.objective import Loss, objective
from withstand.hardening.parts.certified import Certified, bounded, box, worst_case
from withstand.hardening.parts.live import statistics
from withstand.hardening.state import State


@objective
class CrownIBP(Certified):
    """Interval training whose loss is at first that of linear bounds (CROWN) over the interval bounds of inner neurons,
    which are tighter while the radius is small (Zhang et al. 2020, arXiv:1906.06316).

    The cross-entropy itself is bounded, in one row a sample (loss fusion: Xu et al. 2020, arXiv:2002.12920). linear:
    the share of linear bounds at the full radius, the rest being interval bounds; it falls from 1 as the radius grows,
    to 0 by our choice, so that a step then costs what one of `ibp` does. clean, start, steady: as of `ibp`.
    """

    natural_at_zero = True

    linear: Annotated[float, Ge(0), Le(1)] = 0.0
    clean: Annotated[float, Ge(0), Le(1)] = 0.5

    def loss(self, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:  # type: ignore[override]
        share, linear = (1 - (1 - last) * state.ramp for last in (self.clean, self.linear))
        with statistics(model) as given:
            natural = F.cross_entropy(model(x), y)
        if (share == 1 and self.steady == 0) or state.now.radius == 0:
            return Loss(natural, {"clean": natural.detach()})
        found = bounded(model, box(state.now, x), given)
        margins = found.margins(y)
        robust = worst_case(margins)
        if linear > 0:
            robust = (1 - linear) * robust + linear * found.fused(y, margins)
        value = self.steadied(share * natural + (1 - share) * robust, found, state)
        return Loss(value, {"clean": natural.detach(), "worst": robust.detach()})
