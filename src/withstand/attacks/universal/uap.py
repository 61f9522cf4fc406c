"""Universal adversarial perturbations."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor

from withstand.attacks.parts.epochs import cross_entropy, shuffled
from withstand.core.registry import Count, Positive, universal
from withstand.core.rng import RowRandom
from withstand.core.runner import Access
from withstand.core.shapes import flattened
from withstand.core.threat import Threat
from withstand.core.universal import Model, State, predictions

MOMENTUM = 0.9
FALL = 10.0
"""The first step is this many times as long as the last."""

OVERSHOOT = 0.02
DEEPFOOL_STEPS = 10
CLASSES = 10
"""DeepFool's own numbers in the released code: how far it goes past a plane, its steps, and the likeliest classes it
looks at."""


@universal
class Uap:
    """Add one and the same change to every input (Moosavi-Dezfooli et al. 2017, arXiv:1610.08401).

    method: `sgd` walks uphill on the mean cross-entropy to the model's own predictions, each capped, in steepest steps
    with momentum (Shafahi et al. 2020, arXiv:1811.11304), the stronger and faster; `deepfool` is the original: input by
    input, the least change that fools the model there is added.
    epochs: 10. batch: inputs a step; small, since many steps count for more than exact ones. step: length of the first
    step as a fraction of the radius; the last is a tenth of it. cap: of the cross-entropy, so that inputs fooled
    already do not count; 9 as in the paper. share: `deepfool` ends when so much of the data is fooled; 0.8 is the
    original's.

    Unlike the original's code, changed inputs are kept in the domain, and the projection in l2 is on the l2 ball.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    access: ClassVar[Access] = Access.GRADIENT
    loss: ClassVar[str] = "ce"

    method: Literal["sgd", "deepfool"] = "sgd"
    epochs: Count = 10
    batch: Count = 32
    step: Positive = 0.3
    cap: Positive = 9.0
    share: Annotated[float, Gt(0), Le(1)] = 0.8

    def fit(self, model: Model, x: Tensor, threat: Threat, seed: int, state: State | None) -> Iterator[State]:
        """An epoch goes once over the inputs."""
        zero = torch.zeros_like(x[0])
        state = state or {"epoch": torch.tensor(0), "change": zero, "pace": zero, "fooled": torch.tensor(0.0)}
        own, walk = predictions(model, x), self._walk if self.method == "sgd" else self._collect
        while int(state["epoch"]) < self.epochs and not self._enough(state):
            state = walk(model, x, own, threat, seed, state)
            fooled = (predictions(model, self._moved(x, state, threat)) != own).float().mean()
            state = {**state, "epoch": state["epoch"] + 1, "fooled": fooled}
            yield state

    def apply(self, state: State, x0: Tensor, threat: Threat, rng: RowRandom) -> Tensor:
        """x0 with the change added, inside the threat."""
        return threat.project(x0, x0 + state["change"].to(x0))

    def _enough(self, state: State) -> bool:
        return self.method == "deepfool" and float(state["fooled"]) >= self.share

    @staticmethod
    def _moved(x: Tensor, state: State, threat: Threat) -> Tensor:
        return (x + state["change"]).clamp(*threat.domain)

    def _walk(self, model: Model, x: Tensor, own: Tensor, threat: Threat, seed: int, state: State) -> State:
        free, change, pace = _free(threat), state["change"], state["pace"]
        epoch = int(state["epoch"])
        length = self.step * threat.radius * FALL ** (-epoch / max(1, self.epochs - 1))
        for rows in shuffled(len(x), self.batch, seed, epoch):
            rows = rows.to(x.device)
            with torch.enable_grad():
                leaf = change.clone().requires_grad_()
                moved = (x[rows] + leaf).clamp(*threat.domain)
                gain = cross_entropy(model, moved, own[rows]).clamp(max=self.cap).mean()
                (slope,) = torch.autograd.grad(gain, leaf)
            pace = MOMENTUM * pace + slope / slope.abs().mean().clamp(min=1e-12)
            change = _project(free, change + length * free.steepest(pace[None])[0])
        return {**state, "change": change, "pace": pace}

    def _collect(self, model: Model, x: Tensor, own: Tensor, threat: Threat, seed: int, state: State) -> State:
        free, change = _free(threat), state["change"]
        for row in torch.cat(shuffled(len(x), self.batch, seed, int(state["epoch"]))).tolist():
            moved = (x[row] + change).clamp(*threat.domain)
            if int(predictions(model, moved[None])[0]) == int(own[row]):
                step = _deepfool(model, moved, int(own[row]))
                change = change if step is None else _project(free, change + step)
        return {**state, "change": change}


def _free(threat: Threat) -> Threat:
    """The threat as a set of changes: around 0 and without a domain."""
    return replace(threat, domain=(-math.inf, math.inf), levels=None)


def _project(free: Threat, change: Tensor) -> Tensor:
    return free.project(torch.zeros_like(change)[None], change[None])[0]


def _deepfool(model: Model, x: Tensor, own: int) -> Tensor | None:
    """The change of one input that takes it over the nearest of the planes that stand for the classes' borders, step by
    step; None where it did not come out before the last step."""
    total = torch.zeros_like(x)
    for _ in range(DEEPFOOL_STEPS):
        with torch.enable_grad():
            leaf = (x + (1 + OVERSHOOT) * total).requires_grad_()
            logits = model(leaf[None]).flatten()
            if int(logits.argmax()) != own:
                return (1 + OVERSHOOT) * total
            rivals = [k for k in logits.argsort(descending=True).tolist()[:CLASSES] if k != own]
            slopes = [torch.autograd.grad(logits[k] - logits[own], leaf, retain_graph=True)[0] for k in rivals]
        gaps, slope = (logits[own] - logits[rivals]).detach(), torch.stack(slopes)
        size = flattened(slope).norm(dim=1).clamp(min=1e-12)
        nearest = int((gaps / size).argmin())
        total = total + slope[nearest] * ((gaps[nearest] + 1e-4) / size[nearest] ** 2)
    return None
