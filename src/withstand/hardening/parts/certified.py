"""What certified training shares: bounds of a batch's margins by the project's own rules, with gradients by parameters.

Bounds here are trained on and prove nothing: an audit proves, with the margin that rounding needs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from withstand.bounds.interval import interval
from withstand.bounds.linear import Relaxation, least
from withstand.bounds.rule import Box, Elementwise, rule_of
from withstand.core.box import Box as BoxThreat
from withstand.core.property import Argmax
from withstand.core.registry import NonNegative
from withstand.core.threat import Threat
from withstand.hardening.objective import Judge, Objective
from withstand.hardening.parts.live import live, statistics
from withstand.hardening.state import State

Start = Literal["given", "shi"]
"""Weights at the start: those of the module, or drawn anew for interval bounds that keep their width."""


@dataclass(frozen=True, kw_only=True)
class Certified(Objective):
    """What objectives on interval bounds share: the start and what steadies the warm-up (Shi et al. 2021,
    arXiv:2103.17268)."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)
    judged_by: ClassVar[Judge] = "interval"

    start: Start = "given"
    steady: NonNegative = 0.5

    def prepare(self, module: nn.Module) -> None:
        if self.start == "shi":
            shrink(module)

    def steadied(self, value: Tensor, found: "Bounded", state: State) -> Tensor:
        """A loss with the warm-up's penalties, whose weight falls to nothing as the radius grows."""
        weight = self.steady * (1 - state.ramp)
        return value if weight == 0 else value + weight * unsteadiness(found)


def box(threat: Threat, x: Tensor) -> Box:
    """Lowest and highest value of every coordinate within the radius of x [B, *shape] and the domain."""
    radii = threat.radii(x)
    return (x - radii).clamp(*threat.domain), (x + radii).clamp(*threat.domain)


def around(region: Box, at: Tensor, share: float) -> Box:
    """The box of a share of a region's width that is nearest to lie around points `at` of it, and within it."""
    low, high = region
    reach = share * (high - low) / 2
    centre = torch.minimum(torch.maximum(at, low + reach), high - reach)
    return torch.maximum(centre - reach, low), torch.minimum(centre + reach, high)


@dataclass(frozen=True)
class Bounded:
    """A batch with the interval bounds of all values of its live graph, on the autograd tape."""

    relaxation: Relaxation

    def margins(self, y: Tensor) -> Tensor:
        """Lower bounds of the margins of y [B] over every other class, [B, K - 1], rising by class.

        Differences of logits are taken before bounds are: the affine maps at the end become one map with them.
        """
        return least(self.relaxation, self.relaxation.graph.output, self._rows(y))

    def fused(self, y: Tensor, margins: Tensor) -> Tensor:
        """An upper bound of the mean cross-entropy by linear bounds carried back to the input (CROWN) in one row a
        sample (loss fusion: Xu et al. 2020, arXiv:2002.12920): exp(-margin) lies below its chord over the interval
        bounds of the margin, so that the sum over classes lies below an affine function of the logits. At most
        `worst_case` of linear margins that are no less than these.

        margins: lower bounds [B, K - 1] as `margins` gives them. Gradients flow through the lines of ReLU; those of
        functions without lines in closed form are held.
        """
        rows = self._rows(y)
        top, bottom = -margins, least(self.relaxation, self.relaxation.graph.output, -rows)
        peak = F.relu(top.detach().amax(1, keepdim=True))
        highest, lowest = (top - peak).exp(), (bottom - peak).exp()
        width = top - bottom
        slope = torch.where(width > 1e-3, (highest - lowest) / width.clamp(min=1e-3), lowest)
        row = (slope[:, :, None] * rows).sum(1, keepdim=True)
        total = (highest - slope * top).sum(1) - self._linear(row).squeeze(1)
        return (peak.squeeze(1) + torch.log((-peak).exp().squeeze(1) + total)).mean()

    def _linear(self, rows: Tensor) -> Tensor:
        """Lower bounds [B, R] of rows [B, R, K] of the logits by linear bounds."""
        own = replace(self.relaxation, affine_only=False, lines={})
        for node in own.graph.nodes:
            rule = rule_of(own.graph, node)
            if isinstance(rule, Elementwise) and rule.lines is not None:
                own.lines[node.name] = rule.lines(*own.boxes[node.inputs[0]], own.lower)
        return least(own, own.graph.output, rows)

    def _rows(self, y: Tensor) -> Tensor:
        graph = self.relaxation.graph
        return Argmax().rows(y, graph.output_shape[-1], graph.dtype).weight


def bounded(model: nn.Module, region: Box, given: Mapping[str, Tensor]) -> Bounded:
    """Interval bounds of the module as it is used, over boxes [B, *shape] of inputs.

    given: the statistics by which batch normalisation normalises, instead of the running ones. Without autocast.
    """
    low, high = region
    with torch.autocast(low.device.type, enabled=False):
        graph = live(model, low.shape[1:], given)
        boxes = interval(graph, low, high)
    return Bounded(Relaxation(graph, BoxThreat(lower=low, upper=high), low, boxes, affine_only=True))


def clean_statistics(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The statistics of the clean batch in layers of batch normalisation that train; empty where there are none.

    Distributed training needs a pass through its wrapper in any case.
    """
    wrapped = isinstance(model, DistributedDataParallel)
    if not wrapped and not any(isinstance(part, _BatchNorm) and part.training for part in model.modules()):
        return {}
    with statistics(model) as given:
        model(x)
    return given


def worst_case(margins: Tensor) -> Tensor:
    """Cross-entropy of the label at the logits that lower bounds [B, K - 1] of its margins stand for: the mean over the
    batch."""
    return torch.logsumexp(F.pad(-margins, (1, 0)), 1).mean()


def shrink(module: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers from a normal distribution of mean 0 and deviation
    sqrt(2 pi) / fan-in (Shi et al. 2021), except for the last layer, as in the authors' code."""
    layers = [part for part in module.modules() if isinstance(part, nn.modules.conv._ConvNd | nn.Linear)]
    for layer in layers[:-1]:
        nn.init.normal_(
            layer.weight, 0, math.sqrt(2 * math.pi) / nn.init._calculate_fan_in_and_fan_out(layer.weight)[0]
        )


TOLERANCE = 0.5
"""Ratios above this cost nothing: tau of Shi et al. 2021."""


def unsteadiness(found: Bounded) -> Tensor:
    """How much interval bounds grow from the input to each ReLU, and how far its always active and always inactive
    neurons are from balance, the mean over all ReLUs (Shi et al. 2021, section 3.3)."""
    graph, boxes = found.relaxation.graph, found.relaxation.boxes
    low, high = boxes[graph.input]
    width = (high - low).mean()
    parts = [
        _growth(width, *boxes[node.inputs[0]]) + _imbalance(*boxes[node.inputs[0]])
        for node in graph.nodes
        if node.op == "relu"
    ]
    return torch.stack(parts).mean() if parts else width.new_zeros(())


def _growth(width: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """At 0 while bounds are at most twice as wide as the input's, towards 1 as they grow."""
    return _short(width / (high - low).mean().clamp(min=1e-12))


def _imbalance(low: Tensor, high: Tensor) -> Tensor:
    """By the sums of centres, and of their squared distances from the mean, over active and inactive neurons; 0 where
    one kind is missing."""
    centre = (low + high) / 2
    active, inactive = (low > 0).to(centre), (high < 0).to(centre)
    spread = (centre - centre.mean()).square()
    sums = (centre * active).sum(), -(centre * inactive).sum(), (spread * active).sum(), (spread * inactive).sum()
    if not all(bool(one > 0) for one in sums):
        return centre.new_zeros(())
    on, off, spread_on, spread_off = sums
    return _short(torch.minimum(on / off, off / on)) + _short(
        torch.minimum(spread_on / spread_off, spread_off / spread_on)
    )


def _short(ratio: Tensor) -> Tensor:
    """How far a ratio falls short of the tolerance, as a share of it."""
    return F.relu(TOLERANCE - ratio) / TOLERANCE
