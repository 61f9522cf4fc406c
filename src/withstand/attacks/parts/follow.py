"""Gradient steps in a ball whose radius follows the nearest violation."""

from collections.abc import Callable, Generator
from dataclasses import replace

import torch
from torch import Tensor

from withstand.attacks.parts.nearest import DUAL, Best, cosine, length, width
from withstand.core.evidence import Ask, Told
from withstand.core.rng import RowRandom
from withstand.core.threat import rowwise

Asking = Callable[[Tensor, Told | None], Ask]
"""What is asked at a point, knowing the answer at the point before."""

LAST = 0.01  # length of the last step as a share of the first
LEAST = 0.001  # share by which the radius shrinks or grows at the last step
SMOOTHING = 0.1
STEP = 0.36  # root mean square of the first step's coordinates in linf and l1; in l2 that step has length 1
SHRINK = 0.05  # share by which the radius changes at first, from the input
NOISE = 0.5  # of points far from the input, as a share of the domain's width


def first_step(best: Best) -> float:
    """The length (in l2) of the first step, for a domain of width 1."""
    return 1.0 if best.threat.norm == "l2" else STEP * best.x0[0].numel() ** 0.5


def far_point(best: Best, rng: RowRandom) -> Tensor:
    """Points far from the inputs, where gradients are alive that a network trained against attacks has flat near them:
    uniform noise of half the domain's width is added."""
    x0, threat = best.x0, best.threat
    noise = (2 * rng.uniform(x0.shape[1:], x0.dtype) - 1) * NOISE * width(threat)
    return (x0 + noise).clamp(*threat.domain)


def follow(
    best: Best, x: Tensor, steps: int, step: float, shrink: float, asking: Asking, told: Told | None = None
) -> Generator[Ask, Told, None]:
    """Walk from x: steps projected on a ball that shrinks after a violation and grows otherwise (Pintor et al. 2021,
    arXiv:2102.12827).

    step: length (in l2) of the first step for a domain of width 1. shrink: the share by which the radius shrinks or
    grows at first. told: the answer at x, where it was asked already. A row without a violation so far gets at least
    the radius that would do if the margin were linear.
    """
    threat, x0 = best.threat, best.x0
    radius = threat.distance(x0, x)
    nearest = torch.full_like(radius, torch.inf)
    for i in range(steps):
        told = yield asking(x, told)
        assert told.grad is not None
        distance, hit = best.see(x, told.margin), told.margin <= 0
        nearest = torch.where(hit, torch.minimum(nearest, distance), nearest)
        gap = told.margin.nan_to_num(torch.inf).abs() / length(told.grad, DUAL[threat.norm])
        gamma = cosine(shrink, LEAST, i, steps)
        grown = radius * (1 + gamma)
        outside = torch.where(nearest < torch.inf, grown, torch.maximum(distance + gap, grown))
        radius = torch.where(hit, torch.minimum(radius * (1 - gamma), nearest), outside)
        pace = cosine(step, step * LAST, i, steps) * width(threat)
        x = threat.at(radius).project(x0, x - told.grad * rowwise(pace / length(told.grad, 2), x))
    told = yield replace(asking(x, told), grad=False)
    best.see(x, told.margin)


def smoothed(scale: Tensor, stage: int = 0) -> Asking:
    """Slopes of a mean of all targets' margins, in which those that were least at the point before weigh most.

    Weights are exp(-margin / a tenth of `scale`) [B]: with the margin at the clean input as the scale, they do not
    depend on the size of the logits. Unlike the slope of the least margin alone, the mean's does not jump where two
    targets meet, as they do near most nearest violations.
    """

    def ask(x: Tensor, told: Told | None) -> Ask:
        if told is None:
            return Ask(x, grad=True, stage=stage)
        assert told.targets is not None
        share = told.targets / (SMOOTHING * scale.clamp(min=torch.finfo(scale.dtype).tiny))[:, None]
        return Ask(x, grad=True, weights=torch.softmax(-share.clamp(-1e30, 1e30), 1), stage=stage)

    return ask
