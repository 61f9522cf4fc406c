"""Generalised universal adversarial perturbations: a flow field, noise, or both."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.epochs import cross_entropy, generator, shuffled
from withstand.attacks.parts.flow_net import generate, initial
from withstand.core.flow_linf import FlowLinf
from withstand.core.images import image_shape
from withstand.core.registry import Count, Positive, universal
from withstand.core.rng import RowRandom
from withstand.core.runner import Access
from withstand.core.spatial import roughness
from withstand.core.threat import Threat
from withstand.core.universal import Model, State, predictions

DECAY = 1e-4
BETAS = (0.5, 0.999)
"""Weight decay and the two rates of Adam, the released code's."""


@universal
class Guap:
    """Move all inputs along one flow field and add one noise, both made by a generator (Zhang et al. 2020,
    arXiv:2010.07788).

    The threat says which: `flow+linf:TAU,EPS` both, `flow:TAU` the flow alone, `linf:EPS` the noise alone. The flow is
    scaled to TAU exactly. The generator is trained by Adam so that the model leaves its own predictions, on the
    logarithm of 1 + the cross-entropy; the flow and noise of the epoch that fools most are kept.

    epochs: 20, batch: 100 and rate: 0.01 are the released code's for small images. Unlike there, flows may point
    anywhere (there a sigmoid makes all point down and to the right), results are measured after each epoch with the
    flow and noise fixed, and upsampling by repetition fits every size of image.
    """

    norms: ClassVar[tuple[str, ...]] = ("flow+linf", "flow", "linf")
    access: ClassVar[Access] = Access.GRADIENT
    loss: ClassVar[str] = "ce"

    epochs: Count = 20
    batch: Count = 100
    rate: Positive = 0.01

    def fit(self, model: Model, x: Tensor, threat: Threat, seed: int, state: State | None) -> Iterator[State]:
        """An epoch goes once over the inputs."""
        both, own = _both(threat), predictions(model, x)
        state = state or _begin(x, seed)
        while int(state["epoch"]) < self.epochs:
            state = self._epoch(model, x, own, both, seed, state)
            move = _made(state, both)
            fooled = (
                predictions(model, both.deploy(x, both.project(x, move.expand(len(x), -1, -1, -1)))) != own
            ).float()
            state = {**state, "epoch": state["epoch"] + 1}
            if float(fooled.mean()) > float(state["fooled"]):
                state = {**state, "fooled": fooled.mean(), "move": move}
            yield state

    def apply(self, state: State, x0: Tensor, threat: Threat, rng: RowRandom) -> Tensor:
        """The move as the threat has it: flow and noise, the flow alone, or x0 with the noise added."""
        move = state["move"].to(x0).expand(len(x0), -1, -1, -1)
        if threat.norm == "linf":
            return threat.project(x0, _both(threat).deploy(x0, move))
        return threat.project(x0, move[:, :2] if threat.norm == "flow" else move)

    def _epoch(self, model: Model, x: Tensor, own: Tensor, both: FlowLinf, seed: int, state: State) -> State:
        names = [name.removeprefix("net.") for name in state if name.startswith("net.")]
        for rows in shuffled(len(x), self.batch, seed, int(state["epoch"])):
            rows = rows.to(x.device)
            with torch.enable_grad():
                weights = {name: state[f"net.{name}"].clone().requires_grad_() for name in names}
                move = _scaled(*generate(weights, state["seed"]), both)
                moved = both.render(x[rows], move.expand(len(rows), -1, -1, -1))
                gain = torch.log1p(cross_entropy(model, moved, own[rows])).mean()
                slopes = torch.autograd.grad(-gain, list(weights.values()), allow_unused=True)
            state = _adam(state, dict(zip(names, slopes, strict=True)), self.rate)
        return state


def _both(threat: Threat) -> FlowLinf:
    """The threat as one of flow and noise, one of which may be 0."""
    if isinstance(threat, FlowLinf):
        return replace(threat, levels=None)
    tau, eps = (threat.radius, 0.0) if threat.norm == "flow" else (0.0, threat.radius)
    return FlowLinf(1.0, threat.domain, tau=tau, eps=eps)


def _begin(x: Tensor, seed: int) -> State:
    channels, height, width = image_shape(x.shape[1:])
    chance = generator(seed, 0, "generator")
    weights = initial(channels, chance)
    state = {"seed": torch.randn(1, 1, height, width, generator=chance), "epoch": torch.tensor(0)}
    state |= {"steps": torch.tensor(0), "fooled": torch.tensor(-1.0)}
    state |= {f"net.{name}": value for name, value in weights.items()}
    for moment in ("first", "second"):
        state |= {f"{moment}.{name}": torch.zeros_like(value) for name, value in weights.items()}
    return {name: value.to(x.device) for name, value in state.items()}


def _scaled(flow: Tensor, noise: Tensor, both: FlowLinf) -> Tensor:
    """The move [1, 2 + channels, H, W] with the flow of size TAU and noise of EPS at most."""
    tau, eps = both.tau * both.radius, both.eps * both.radius
    size = roughness(flow).clamp(min=1e-12).to(flow.dtype)
    return torch.cat([flow * (tau / size), eps * noise], 1)


def _made(state: State, both: FlowLinf) -> Tensor:
    weights = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    with torch.no_grad():
        return _scaled(*generate(weights, state["seed"]), both)


def _adam(state: State, slopes: dict[str, Tensor | None], rate: float) -> State:
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980) on the generator's weights."""
    steps, new = state["steps"] + 1, dict(state)
    unbias = [1 - beta ** int(steps) for beta in BETAS]
    for name, slope in slopes.items():
        weight = state[f"net.{name}"]
        slope = DECAY * weight + (0.0 if slope is None else slope)
        first = BETAS[0] * state[f"first.{name}"] + (1 - BETAS[0]) * slope
        second = BETAS[1] * state[f"second.{name}"] + (1 - BETAS[1]) * slope**2
        new |= {f"first.{name}": first, f"second.{name}": second}
        new[f"net.{name}"] = weight - rate * (first / unbias[0]) / ((second / unbias[1]).sqrt() + 1e-8)
    new["steps"] = steps
    return new
