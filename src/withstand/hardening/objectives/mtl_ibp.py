"""Certified training as a sum of interval and adversarial training."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.core.registry import Count, Positive
from withstand.hardening.objective import Loss, objective
from withstand.hardening.parts.ascent import ascend, cross_entropy
from withstand.hardening.parts.certified import Certified, bounded, box, clean_statistics, worst_case
from withstand.hardening.state import State


@objective
class MtlIBP(Certified):
    """Cross-entropy of the worst margins that interval bounds allow over the whole threat, plus that of points found by
    PGD (De Palma et al. 2024, arXiv:2305.13991).

    alpha: the weight of the first; 1 is interval training without a clean part, 0 is PGD training. 0.5 is the value of
    CTBench (Mao et al. 2024, arXiv:2406.04848) for MNIST at .3; small radii want .01 to .02. steps, step: of PGD, 8,
    each a quarter of the radius. Batch normalisation uses the statistics of the clean batch in both parts, as in
    CTBench. start, steady: as of `ibp`.
    """

    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    steps: Count = 8
    step: Positive = 0.25

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the cross-entropy; x itself where its part has no weight."""
        if self.alpha == 1:
            return x
        return ascend(model, cross_entropy(y), x, state, steps=self.steps, step=self.step, purpose="pgd")

    def loss(self, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:  # type: ignore[override]
        if self.alpha == 0:
            attacked = F.cross_entropy(model(at), y)
            return Loss(attacked, {"robust": attacked.detach()})
        given = clean_statistics(model, x)
        found = bounded(model, box(state.now, x), given)
        worst = worst_case(found.margins(y))
        value, logs = self.alpha * worst, {"worst": worst.detach()}
        if self.alpha < 1:
            outputs = found.relaxation.graph(at) if given else model(at)
            attacked = F.cross_entropy(outputs, y)
            value, logs = value + (1 - self.alpha) * attacked, {**logs, "robust": attacked.detach()}
        return Loss(self.steadied(value, found, state), logs)
