"""Virtual adversarial training: smooth answers around every input, labelled or not."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from withstand.core.registry import Count, NonNegative, Positive
from withstand.core.threat import rowwise, vector_norm
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts.ascent import looking, slope
from withstand.hardening.parts.divergence import divergence, log_shares
from withstand.hardening.parts.labelled import labelled_cross_entropy
from withstand.hardening.state import State


@objective
class VAT(Objective):
    """Cross-entropy of the rows that have a label plus alpha times the local distributional smoothness of all rows: the
    divergence of the answers at the end of the radius in the direction in which they change most from those at the
    input, which count as constants (Miyato et al. 2018, arXiv:1704.03976).

    Rows without a label (y = -1) are welcome, so it is semi-supervised training too. The direction is that of the
    largest curvature, by `powers` steps of power iteration from a random one, 1 as in the authors' code. probe: length
    at which the curvature is felt; the authors' 1e-6 is below what float32 resolves, so 0.01, and large ones miss the
    direction. entropy: weight of the conditional entropy of all answers (1 is the paper's VAT with entropy
    minimisation). The authors' radius for CIFAR-10 is 8 to 10; points are kept inside the domain.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    unlabelled = True
    natural_at_zero = True

    alpha: NonNegative = 1.0
    powers: Count = 1
    probe: Positive = 1e-2
    entropy: NonNegative = 0.0

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The inputs moved by the radius in their virtual adversarial direction."""
        threat = state.now
        if self.alpha == 0 or threat.radius == 0:
            return x
        with looking(model, x, state) as x:
            way = self.direction(model, x, state)
            return threat.project(x, x + threat.radii(x) * way)

    def direction(self, model: nn.Module, x: Tensor, state: State) -> Tensor:
        """Unit vectors of the shape of x along which the model's answers there change most. A row whose answers do not
        change keeps its random one."""
        with torch.no_grad():
            still = model(x)
        unit = state.threat.steepest
        way = unit(state.rng(x, "vat").normal(x.shape[1:], x.dtype))
        for _ in range(self.powers):
            grad = slope(lambda point: divergence(still, model(point)).sum(), x + self.probe * way)
            flat = vector_norm(grad, 2) == 0
            way = torch.where(rowwise(flat, x), way, unit(grad))
        return way

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        outputs = model(x)
        value = labelled_cross_entropy(outputs, y)
        logs = {"clean": value.detach()}
        if self.alpha > 0 and at is not x:
            smooth = divergence(outputs.detach(), model(at)).mean()
            value, logs["smoothness"] = value + self.alpha * smooth, smooth.detach()
        if self.entropy > 0:
            log = log_shares(outputs)
            spread = -(log.exp() * log).sum(1).mean()
            value, logs["entropy"] = value + self.entropy * spread, spread.detach()
        return Loss(value, logs)
