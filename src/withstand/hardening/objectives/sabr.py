"""Certified training on small boxes around attacks."""

from torch import Tensor, nn

from withstand.core.registry import Count, Positive, Share
from withstand.hardening.objective import Loss, objective
from withstand.hardening.parts.ascent import ascend, cross_entropy
from withstand.hardening.parts.certified import Certified, around, bounded, box, clean_statistics, worst_case
from withstand.hardening.state import State


@objective
class SABR(Certified):
    """Cross-entropy of the worst margins that interval bounds allow over a small box around a point found by PGD (small
    adversarial bounding regions, Mueller et al. 2023, arXiv:2210.04871).

    More accurate than `ibp`, and proved by stronger methods than `ibp`. The box lies inside the threat and the domain,
    as near to the point as that allows. share: its width as a share of the threat's; 1 is interval training, and the
    paper's values run from 0.1 (CIFAR-10 at 2/255) to 0.6 (MNIST at .3) and above. steps, step: of PGD, 8 as in the
    paper, each a quarter of the radius, as in CTBench (Mao et al. 2024, arXiv:2406.04848). start, steady: as of `ibp`.
    """

    share: Share = 0.6
    steps: Count = 8
    step: Positive = 0.25

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the cross-entropy."""
        return ascend(model, cross_entropy(y), x, state, steps=self.steps, step=self.step, purpose="sabr")

    def loss(self, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:  # type: ignore[override]
        found = bounded(model, around(box(state.now, x), at, self.share), clean_statistics(model, x))
        robust = worst_case(found.margins(y))
        return Loss(self.steadied(robust, found, state), {"worst": robust.detach()})
