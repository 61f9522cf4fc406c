"""Feature scattering: training at points that move the whole batch's outputs far in optimal transport."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.core.registry import Count, Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts.ascent import answers, ascend
from withstand.hardening.parts.smoothing import smoothed
from withstand.hardening.parts.transport import cosine_cost, sinkhorn, transport_cost
from withstand.hardening.state import State


@objective
class FeatureScatter(Objective):
    """Cross-entropy against softened labels at points, found without labels, where the batch's logits are far from the
    clean ones in optimal transport, by a cost of one minus the cosine (Zhang and Wang 2019, arXiv:1907.10764).

    Do not trust such a model before strong attacks: the README of AutoAttack lists 36.64 % robust accuracy for the
    authors' CIFAR-10 model, which they reported at 60.6 %. The points of a row depend on the whole batch, so batch size
    and the spread over processes matter.

    steps: 1 and step, as a share of the radius: 1, as in the authors' code. smoothing: the share of a label's mass that
    the other classes get, its 0.5. reg, iterations: of Sinkhorn's algorithm, its 0.01 and at most 100.
    """

    coupled: ClassVar[bool] = True

    steps: Count = 1
    step: Positive = 1.0
    smoothing: Annotated[float, Ge(0), Le(0.5)] = 0.5
    reg: Positive = 0.01
    iterations: Count = 100

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of a walk up the distance between the batch's outputs and the clean ones."""
        clean = answers(model, x, state)

        def distance(outputs: Tensor) -> Tensor:
            cost = cosine_cost(clean, outputs)
            return transport_cost(cost, sinkhorn(cost, self.reg, self.iterations))

        return ascend(model, distance, x, state, steps=self.steps, step=self.step, purpose="feature-scatter")

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value = smoothed(model(at), y, self.smoothing)
        return Loss(value, {"robust": value.detach()})
