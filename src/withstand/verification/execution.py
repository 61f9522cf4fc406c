"""Whether what is proved of a network's real function holds for the network as a machine runs it."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from withstand.bounds.execution import execution_radius
from withstand.bounds.refine import crown
from withstand.core.box import Box
from withstand.core.property import Property
from withstand.core.threat import Threat
from withstand.graph.ir import Graph

ROWS = 64
"""Samples handled together."""

CLOSE = 1e-9
"""What float64 itself may add to a margin, as a share of max(1, |margin|), of a network whose type is smaller."""


CORNERS = 10
"""Inputs up to which a box's corners are all looked at."""

MEMORY = 1024.0
"""Megabytes of work done at once by linear bounds."""

SPREAD = 32
"""Inputs up to which points spread over a box say anything."""


def spread(box: Box, like: Tensor, count: int) -> Tensor:
    """Points [K, *shape] of a box of one sample: its corners, where they are few, and random ones; none where there are
    more than `SPREAD` inputs. like [*shape]: in whose type they are; those that rounding takes out are left out."""
    assert box.lower is not None
    assert box.upper is not None
    low, high = box.lower.double().flatten(), box.upper.double().flatten()
    size = len(low)
    if size > SPREAD:
        return like.new_zeros(0, *like.shape)
    share = torch.rand(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if size <= CORNERS:
        corners = torch.arange(2**size)[:, None] >> torch.arange(size) & 1
        share = torch.cat([corners.double(), share])
    x = (low + (high - low) * share).to(like.dtype)
    inside = ((x.double() >= low) & (x.double() <= high)).all(1)
    return x[inside].reshape(-1, *like.shape)


@dataclass(frozen=True)
class Execution:
    """A network's own arithmetic before the judge (see `withstand.core.arithmetic.Arithmetic`).

    graph: as it is bounded; its `origin`, where it has one, is the network as it is run.
    """

    graph: Graph
    property: Property

    @cached_property
    def run(self) -> Graph:
        """The network as it is run."""
        return self.graph.origin or self.graph

    @cached_property
    def _wide(self) -> Graph:
        constants = {name: c.cpu() for name, c in self.run.constants.items()}
        wide = {name: c.double() if c.is_floating_point() else c for name, c in constants.items()}
        return self.run.with_constants(wide)

    def radii(self, x0: Tensor, y: Tensor, threat: Threat, enough: Tensor) -> Tensor:
        """Radii [B] by which margins of the network as it is run may differ from those of real arithmetic anywhere in
        the threat around x0 [B, *shape], with targets y [B]; infinite where no bound is known. By intervals, and where
        those exceed `enough` [B] by linear bounds of the values."""
        x0, found = x0.double(), torch.full((len(x0),), torch.inf, dtype=torch.float64)
        for linear in (False, True):
            wanted = (found >= enough.cpu()).nonzero().squeeze(1)
            for rows in wanted.split(ROWS) if len(wanted) else ():
                at = rows.to(x0.device)
                found[rows] = torch.minimum(found[rows], self._radii(x0[at], y[at], threat.pick(at, x0), linear))
        return found

    def _radii(self, x0: Tensor, y: Tensor, threat: Threat, linear: bool) -> Tensor:
        low, high = (edge.expand_as(x0).cpu() for edge in threat.box(x0))
        known = None
        if linear:
            box = Box(lower=low, upper=high)
            known = crown(self._wide, box, x0.cpu(), "adaptive", MEMORY, None).boxes
        outputs = execution_radius(self.run, low, high, known=known).flatten(1)
        weight = self.property.rows(y.cpu(), outputs.shape[1], torch.float64).weight.abs()
        each = torch.where(weight > 0, weight * outputs[:, None], 0.0).sum(-1)
        return each.amax(1)

    def explains(self, x: Tensor, y: Tensor, margin: float, bound: float, radius: float) -> bool:
        """Whether rounding alone makes the margin of x [*shape] fall below a lower bound of the real one: in float64 it
        does not; of a network in float64, the rounding errors could. A bound computed in the network's own type may
        itself be off by as much."""
        if self.run.dtype == torch.float64:
            return bound - margin <= radius
        with torch.no_grad():
            outputs = self._wide(x[None].cpu().double())
        real = float(self.property.margin(outputs, y[None].cpu()))
        return bound <= real + max(radius if math.isfinite(radius) else 0.0, CLOSE * max(1.0, abs(real)))
