"""Bounds of rows over many input boxes at once, with what a splitter wants to know besides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from withstand.bounds.margin import lower_bound
from withstand.core.box import Box
from withstand.core.property import Rows
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph


@dataclass(frozen=True)
class BoxBounds:
    """Bounds of R rows over K boxes of n inputs.

    bound [K, R]: sound lower bounds. edge [K, M], slope [K, M, n]: linear lower bounds, each given by its least value
    on the box; line m bounds row m % R, and M is R, or 2 R where the second R of them come from parallel lines of the
    activations. effect(boxes [J], rows [J]) -> [J, n]: how much of
    the looseness of a row's bound on a box comes from the width of each input.
    """

    bound: Tensor
    edge: Tensor
    slope: Tensor
    effect: Callable[[Tensor, Tensor], Tensor]

    @property
    def parallel(self) -> Tensor:
        """Which rows are bounded better over parallel lines: bool [K, R]."""
        rows = self.bound.shape[1]
        return self.edge[:, -rows:] > self.edge[:, :rows]


class Bounder(Protocol):
    """A network that can be evaluated and bounded on flat inputs."""

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [K, O] of flat inputs [K, n]."""
        ...

    def bound(self, low: Tensor, high: Tensor, rows: Rows) -> BoxBounds:
        """Bounds of the rows (weight [K, R, O]) over the boxes low, high [K, n]."""
        ...

    def fitting(self, entries: int) -> int:
        """How many boxes to bound at once so that the largest tensor keeps to about so many numbers."""
        ...


class GraphBounder:
    """Any graph, bounded by CROWN (withstand.bounds); the effect of an input is its width times the row's gradient."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.size = sum(c.numel() for c in graph.constants.values()) + 1

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.graph.input_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return flattened(self.graph(self._shaped(x)))

    def bound(self, low: Tensor, high: Tensor, rows: Rows) -> BoxBounds:
        threat = Box(lower=self._shaped(low), upper=self._shaped(high))
        middle = (low + high) / 2
        bound = lower_bound("crown", self.graph, threat, self._shaped(middle), rows)

        def effect(boxes: Tensor, chosen: Tensor) -> Tensor:
            with torch.enable_grad():
                x = middle[boxes].requires_grad_()
                value = (self(x) * rows.weight[boxes, chosen]).sum()
                slope = torch.autograd.grad(value, x)[0]
            width = (high - low)[boxes]
            return width * (slope.abs() + slope.abs().amax(1, keepdim=True) * 1e-3 + 1e-12)

        return BoxBounds(bound, bound, bound.new_zeros(*bound.shape, low.shape[1]), effect)

    def fitting(self, entries: int) -> int:
        return max(1, entries // self.size)
