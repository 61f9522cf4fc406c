"""Certified training by interval bounds."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.hardening.objective import Loss, objective
from withstand.hardening.parts.certified import Certified, bounded, box, worst_case
from withstand.hardening.parts.live import statistics
from withstand.hardening.state import State


@objective
class IBP(Certified):
    """Cross-entropy of the clean inputs, and of the worst margins that interval bounds allow over the whole threat
    (Gowal et al. 2018, arXiv:1810.12715).

    The model then proves by `ibp`, in one pass. Batch normalisation uses the statistics of the clean batch for the
    bounds too. clean: the weight of the first part at the full radius, 0.5 as in the paper; it falls from 1 as the
    radius grows. start: `given` keeps the module's weights; `shi` draws them anew, so that bounds neither grow nor
    vanish with depth. steady: weight of two penalties while the radius grows, on bounds that widen and on active
    neurons that do not balance the inactive ones; it falls to 0; 0.5 as in Shi et al. 2021, arXiv:2103.17268.
    """

    natural_at_zero = True

    clean: Annotated[float, Ge(0), Le(1)] = 0.5

    def loss(self, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:  # type: ignore[override]
        share = 1 - (1 - self.clean) * state.ramp
        with statistics(model) as given:
            natural = F.cross_entropy(model(x), y)
        if (share == 1 and self.steady == 0) or state.now.radius == 0:
            return Loss(natural, {"clean": natural.detach()})
        found = bounded(model, box(state.now, x), given)
        robust = worst_case(found.margins(y))
        value = self.steadied(share * natural + (1 - share) * robust, found, state)
        return Loss(value, {"clean": natural.detach(), "worst": robust.detach()})
