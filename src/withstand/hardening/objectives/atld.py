"""Adversarial training with the latent distribution: points whose outputs a discriminator tells from clean ones."""

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from withstand.core.registry import Count, NonNegative, Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.parts import discriminator as judge
from withstand.hardening.parts.ascent import answers, ascend
from withstand.hardening.parts.smoothing import smoothed, soft_labels
from withstand.hardening.state import State

NAME = "atld"
"""Under which a state holds the discriminator."""


@objective
class ATLD(Objective):
    """Cross-entropy against softened labels at points where a discriminator, trained beside the classifier, best tells
    the logits from clean ones, plus a divergence that pulls the two apart no further (Qian et al. 2021,
    arXiv:2107.04401).

    One head of the discriminator judges the whole distribution (global), the other the classes (local). Its weights are
    kept in the state and take `turns` steps on each batch, of the gradient averaged over processes. Unlike the authors'
    code, where the clean side of `mse` is constant, both sides move: else nothing keeps the logits from drifting off.

    steps: 1 and step, as a share of the radius: 1, smoothing .5, turns 2 and rate 0.001 as in the authors' code. local:
    weight of the classes in the discriminator's training. divergence: `mse`, as in the code, of the logits at the point
    from those at the input, scaled by the ratio of the largest gradients of both parts by the point; or `js`, as in the
    paper (our reading of it), what the discriminator cannot tell: 2 log 2 less its cross-entropy. weight: of the
    divergence, 0.5 as in the code; the paper has 1 for js.

    A model so trained may be joined to `withstand.hardening.manipulation.Manipulated`, the manipulation at inference of
    the paper.
    """

    coupled: ClassVar[bool] = True

    steps: Count = 1
    step: Positive = 1.0
    smoothing: Annotated[float, Ge(0), Le(0.5)] = 0.5
    divergence: Literal["mse", "js"] = "mse"
    weight: NonNegative = 0.5
    local: NonNegative = 1.0
    turns: Count = 2
    rate: Positive = 1e-3

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of a walk towards outputs that look moved, after which the discriminator learns from it."""
        if state.now.radius == 0:
            return x
        clean = answers(model, x, state)
        judge.begin(state.held, NAME, clean, state.seed)
        still = judge.discriminator(state.held, NAME)
        at = ascend(
            model,
            lambda outputs: F.logsigmoid(-still(outputs).clean),
            x,
            state,
            steps=self.steps,
            step=self.step,
            purpose="atld",
        )
        moved = answers(model, at, state)
        with torch.inference_mode(False):
            labels = soft_labels(y.clone(), clean.shape[1], self.smoothing)
        for _ in range(self.turns):
            judge.train(state.held, NAME, clean, moved, labels, self.local, self.rate)
        return at

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        if self.weight == 0 or at is x:
            value = smoothed(model(at), y, self.smoothing)
            return Loss(value, {"robust": value.detach()})
        if self.divergence == "js":
            outputs = model(at)
            robust, apart = smoothed(outputs, y, self.smoothing), self._told(model(x), outputs, state)
            scale = 1.0
        else:
            robust, apart, scale = self._scaled(model, x, at, y)
        logs = {"robust": robust.detach(), self.divergence: apart.detach()}
        return Loss(robust + self.weight * scale * apart, logs)

    def _told(self, clean: Tensor, moved: Tensor, state: State) -> Tensor:
        still = judge.discriminator(state.held, NAME)
        return 2 * math.log(2) - judge.gap(still(clean), still(moved)).mean()

    def _scaled(self, model: Model, x: Tensor, at: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy, squared distance of the logits, and the ratio of their largest gradients by the points."""
        if not torch.is_grad_enabled():  # a validation loop asks for the number alone
            with torch.inference_mode(False), torch.enable_grad():
                robust, apart, scale = self._scaled(model, x.clone(), at.clone(), y.clone())
            return robust.detach(), apart.detach(), scale
        point = at.detach().requires_grad_()
        clean, outputs = model(x), model(point)
        robust, apart = smoothed(outputs, y, self.smoothing), F.mse_loss(outputs.float(), clean.float())
        largest = [torch.autograd.grad(part, point, retain_graph=True)[0].abs().max() for part in (robust, apart)]
        scale = largest[0] / largest[1]
        return robust, apart, torch.where(scale.isfinite(), scale, 0.0)
