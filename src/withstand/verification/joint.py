"""Blocks of functions of several values (products, softmax, maxima).

Their planes are made anew on every domain from the bounds of these values, so that a cut of a value brings them nearer
to the function (McCormick 1976 for products).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds.patterns import Coefficients
from withstand.bounds.planes import Planes, dot
from withstand.bounds.rule import Box, Nonlinear
from withstand.core.shapes import flattened
from withstand.graph.ir import Node
from withstand.graph.ops import OPS

Held = tuple[int, torch.Size]
"""Where the elements of one input begin among a block's pre-activations, and the input's shape."""


@dataclass(frozen=True)
class Joint:
    """Values of a function of V pre-activations weight @ state + bias, which are all elements of the node's inputs.

    inputs: of every input of the node, what `Held` says, or a constant [1, *shape]. place [U]: flat positions of the
    values held in the state. weight [V, start]: over the state before. low, high [V]: bounds of the pre-activations.
    """

    node: Node
    rule: Nonlinear
    inputs: tuple[Held | Tensor, ...]
    place: Tensor
    weight: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor

    @property
    def start(self) -> int:
        """Where the block's values begin in the state."""
        return self.weight.shape[1]

    def __len__(self) -> int:
        return len(self.bias)

    def values(self, z: Tensor) -> Tensor:
        """The values [K, U] at pre-activations z [K, V]."""
        inputs = (self._shaped(held, z) for held in self.inputs)
        return flattened(OPS[self.node.op].run(*inputs, **self.node.attrs))[:, self.place]

    def planes(self, low: Tensor, high: Tensor) -> Planes:
        """Planes around the node's value on D domains, whose pre-activations have bounds low and high [D, V]."""
        assert self.rule.planes is not None
        boxes: list[Box] = [(self._shaped(held, low), self._shaped(held, high)) for held in self.inputs]
        return self.rule.planes(*boxes, **self.node.attrs)

    def back(self, planes: Planes, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [D, U] or [D, R, U] over the values as rows over the pre-activations [..., V] and constants."""
        backs, constant = planes.back(self._whole(planes, rows))
        found = rows.new_zeros(*constant.shape, len(self))
        for held, back in zip(self.inputs, backs, strict=True):
            if isinstance(held, Tensor):
                constant = constant + dot(back, held)
            else:
                found[..., held[0] : held[0] + held[1].numel()] += flattened(back, 2)
        return found.reshape(*rows.shape[:-1], len(self)), constant.reshape(rows.shape[:-1])

    def between(self, planes: Planes, z: Tensor, part: Tensor) -> Tensor:
        """The values [D, U] at pre-activations z [D, V] of the planes that rows with coefficients part [D, U] use."""
        low, high = self.ends(planes, z)
        return torch.where(part >= 0, low, high)

    def ends(self, planes: Planes, z: Tensor) -> Box:
        """The values [D, U] of the planes below and above at pre-activations z [D, V]."""
        inputs = [self._shaped(held, z)[:, None] for held in self.inputs]

        def side(coefficients: Coefficients, constant: Tensor) -> Tensor:
            parts = [planes.pattern.forward(coefficients, i, x).squeeze(1) for i, x in enumerate(inputs)]
            return flattened(sum(parts) + constant)[:, self.place]

        return side(planes.lower, planes.low), side(planes.upper, planes.high)

    def blame(self, planes: Planes, loss: Tensor) -> Tensor:
        """Losses [D, U] of the values laid at the pre-activations [D, V] that they depend on."""
        ones = tuple(torch.ones_like(c) for c in planes.lower)
        rows = self._whole(planes, loss)
        found = loss.new_zeros(len(loss), len(self))
        for i, held in enumerate(self.inputs):
            if not isinstance(held, Tensor):
                back = flattened(planes.pattern.transpose(ones, i, rows))
                found[:, held[0] : held[0] + held[1].numel()] += back
        return found

    def _shaped(self, held: Held | Tensor, z: Tensor) -> Tensor:
        if isinstance(held, Tensor):
            return held
        return z[:, held[0] : held[0] + held[1].numel()].reshape(len(z), *held[1])

    def _whole(self, planes: Planes, rows: Tensor) -> Tensor:
        """Rows [D, U] or [D, R, U] over the held values as rows [D, R, *out] over the node's whole value."""
        shape = planes.low.shape[1:]
        whole = rows.new_zeros(*rows.shape[:-1], shape.numel())
        whole[..., self.place] = rows
        return whole.reshape(len(rows), -1, *shape)
