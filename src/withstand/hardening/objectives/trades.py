"""TRADES: accuracy against robustness as a sum."""

from torch import Tensor, nn

from withstand.core.registry import Count, NonNegative, Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts.ascent import answers, ascend
from withstand.hardening.parts.divergence import divergence
from withstand.hardening.parts.labelled import labelled_cross_entropy
from withstand.hardening.state import State


@objective
class Trades(Objective):
    """Cross-entropy of the clean inputs plus beta times the divergence between the model's answers there and at the
    points around them where it differs most (Zhang et al. 2019, arXiv:1901.08573).

    The gradient flows through both answers, as in the authors' code. Rows without a label (y = -1) count in the second
    part only. beta: 6, the paper's for CIFAR-10 (1 for MNIST). steps: 10, and step, as a share of the radius: .226, its
    .007 of .031. The walk starts beside the input, where the divergence, flat at the input, has a gradient.
    """

    unlabelled = True
    natural_at_zero = True

    beta: NonNegative = 6.0
    steps: Count = 10
    step: Positive = 0.226

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the divergence from the answers at x."""
        if self.beta == 0:
            return x
        return farthest(model, x, state, self.steps, self.step)

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        outputs = model(x)
        clean = labelled_cross_entropy(outputs, y)
        if self.beta == 0 or at is x:
            return Loss(clean, {"clean": clean.detach()})
        robust = divergence(outputs, model(at)).mean()
        return Loss(clean + self.beta * robust, {"clean": clean.detach(), "divergence": robust.detach()})


def farthest(model: nn.Module, x: Tensor, state: State, steps: int, step: float) -> Tensor:
    """Points of the threat where the model's answer differs most from that at x, in Kullback-Leibler divergence."""
    still = answers(model, x, state)
    return ascend(
        model,
        lambda outputs: divergence(still, outputs),
        x,
        state,
        steps=steps,
        step=step,
        start="noise",
        purpose="divergence",
    )
