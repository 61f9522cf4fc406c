"""What certified training shares: bounds of a batch's margins by the project's own rules, with gradients by parameters.

Bounds here are trained on and prove nothing: the audit proves, with the margin that rounding needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.bounds.interval import interval
from withstand.bounds.linear import Relaxation, least
from withstand.bounds.rule import Box
from withstand.core.box import Box as BoxThreat
from withstand.core.property import Argmax
from withstand.core.threat import Threat
from withstand.hardening.parts.live import live

Start = Literal["ibp", "given"]
"""Weights at the start: drawn anew for interval bounds, or those of the module."""


def box(threat: Threat, x: Tensor) -> Box:
    """Lowest and highest value of every coordinate within the radius of x [B, *shape] and the domain."""
    radii = threat.radii(x)
    return (x - radii).clamp(*threat.domain), (x + radii).clamp(*threat.domain)


@dataclass(frozen=True)
class Bounded:
    """A batch with its interval bounds. boxes: of every value of the live graph by name."""

    relaxation: Relaxation

    @property
    def boxes(self) -> dict[str, Box]:
        """Lower and upper bounds [B, *shape] of every value."""
        return self.relaxation.boxes

    def margins(self, y: Tensor) -> Tensor:
        """Lower bounds of the margins of y [B] over every other class, [B, K - 1], rising by class.

        The differences of logits are taken before bounds are: affine maps at the end are one map with them.
        """
        graph = self.relaxation.graph
        rows = Argmax().rows(y, graph.output_shape[-1], graph.dtype).weight
        return least(self.relaxation, graph.output, rows)


def bounded(model: nn.Module, region: Box, given: Mapping[str, Tensor] | None = None) -> Bounded:
    """Interval bounds of the module as it is used, over boxes [B, *shape] of inputs.

    given: the statistics by which batch normalisation normalises, instead of the running ones. Without autocast.
    """
    low, high = region
    with torch.autocast(low.device.type, enabled=False):
        graph = live(model, low.shape[1:], given)
        boxes = interval(graph, low, high)
    return Bounded(Relaxation(graph, BoxThreat(lower=low, upper=high), low, boxes, affine_only=True))


def worst_case(margins: Tensor) -> Tensor:
    """Cross-entropy of the label at the logits that lower bounds [B, K - 1] of its margins stand for: their mean over
    the batch."""
    return torch.logsumexp(F.pad(-margins, (1, 0)), 1).mean()
