"""Networks that are a chain of affine maps with ReLU in between, bounded on many small boxes at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.bounds import affine
from withstand.bounds.rule import Affine, active, rule_of
from withstand.core.property import Rows
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph
from withstand.verification.boxbounds import BoxBounds

MAX_WIDTH = 1024
"""A network with a wider layer is not made into a chain: its matrices would be larger than its graph."""


@dataclass(frozen=True)
class Layer:
    """Neurons before a ReLU on K boxes: bounds below, above [K, d]; on unstable ones (below < 0 < above), the upper
    line ratio * z - ratio * below, whose middle lies `error` above the parallel through 0 (0 where stable); and the
    part of each neuron's radius that comes from each input, inputs [K, n, d]."""

    below: Tensor
    above: Tensor
    ratio: Tensor
    error: Tensor
    inputs: Tensor


class Chain:
    """weights[i] [out, in] and biases[i] [out] of the affine maps; a ReLU stands between each two.

    Hidden neurons are bounded by zonotopes (DeepZ; Singh et al. 2018), whose generators are few on small boxes, and
    those that stay undecided by backward linear bounds (CROWN; Zhang et al. 2018, arXiv:1811.00866) as well; the rows
    get the better of both.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        self.weights, self.biases = tuple(weights), tuple(biases)
        self._generators = sum(w.shape[1] for w in weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [K, O] of flat inputs [K, n]."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.addmm(bias, x, weight.T).relu_()
        return torch.addmm(self.biases[-1], x, self.weights[-1].T)

    def fitting(self, entries: int) -> int:
        """Boxes whose generators, as many as the last batch had, keep to `entries` numbers."""
        return max(1, entries // (self._generators * max(len(b) for b in self.biases)))

    def bound(self, low: Tensor, high: Tensor, rows: Rows) -> BoxBounds:
        """Bounds of the rows over the boxes low, high [K, n]."""
        inputs, spread = low.shape[1], (high - low) / 2
        layers, middle, generators = self._forward(low, high)
        self._generators = generators.shape[1]
        parts = rows.weight @ generators.transpose(1, 2)
        straight = torch.einsum("kro,ko->kr", rows.weight, middle) + rows.offset - parts.abs().sum(2)
        slope, back, passed = self._backward(layers, low, high, rows)

        def effect(boxes: Tensor, chosen: Tensor) -> Tensor:
            total = low.new_zeros(len(boxes), inputs)
            for layer, coefficients in zip(layers, passed, strict=True):
                gain = layer.error / (layer.above - layer.below).clamp(min=1e-30)
                share = coefficients[boxes, chosen].abs() * gain[boxes]
                total += torch.bmm(layer.inputs[boxes].abs(), share[:, :, None]).squeeze(2)
            return torch.where(total.amax(1, keepdim=True) > 0, total, spread[boxes])

        slopes = torch.cat([slope, parts[:, :, :inputs] / spread[:, None].clamp(min=1e-30)], 1)
        return BoxBounds(torch.maximum(back, straight), torch.cat([back, straight], 1), slopes, effect)

    def _forward(self, low: Tensor, high: Tensor) -> tuple[list[Layer], Tensor, Tensor]:
        """The hidden layers, and the outputs as a zonotope: middle [K, O], generators [K, g, O], inputs' ones first."""
        inputs = low.shape[1]
        generators = ((high - low) / 2)[:, :, None] * self.weights[0].T
        middle = torch.addmm(self.biases[0], (low + high) / 2, self.weights[0].T)
        layers = []
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            radius = generators.abs().sum(1)
            below, above = middle - radius, middle + radius
            if layers:
                self._refine(layers, low, high, below, above)
            ratio = above.clamp(min=0) / (above.clamp(min=0) - below.clamp(max=0)).clamp(min=1e-30)
            error = ratio * below.clamp(max=0) * -0.5
            layers.append(Layer(below, above, ratio, error, generators[:, :inputs]))
            middle = torch.addmm(bias, ratio * middle + error, weight.T)
            generators = (generators * ratio[:, None]) @ weight.T
            fresh = int((error > 0).sum(1).max())
            if fresh:
                size, index = error.topk(fresh, dim=1)
                generators = torch.cat([generators, weight.T[index] * size[:, :, None]], 1)
        return layers, middle, generators

    def _refine(self, layers: list[Layer], low: Tensor, high: Tensor, below: Tensor, above: Tensor) -> None:
        """Tighten the bounds below, above [K, d] of the next layer's undecided neurons in place, by lines carried back
        through `layers`."""
        number = len(layers)
        box, neuron = ((below < 0) & (above > 0)).nonzero(as_tuple=True)
        if not len(box):
            return
        coefficient = self.weights[number][neuron]
        constant = self.biases[number][neuron]
        coefficient, constant = torch.cat([coefficient, -coefficient]), torch.cat([constant, -constant])
        both = box.repeat(2)
        for layer, weight, bias in zip(
            layers[::-1], self.weights[number - 1 :: -1], self.biases[number - 1 :: -1], strict=True
        ):
            over, under = coefficient.clamp(max=0), coefficient.clamp(min=0)
            kept = (layer.above > -layer.below).to(low.dtype)
            constant = constant + 2 * (over * layer.error[both]).sum(1)
            coefficient = under * kept[both] + over * layer.ratio[both]
            constant = torch.addmv(constant, coefficient, bias)
            coefficient = coefficient @ weight
        centre, half = (low + high) / 2, (high - low) / 2
        least = constant + (coefficient * centre[both]).sum(1) - (coefficient.abs() * half[both]).sum(1)
        floor, ceiling = least.chunk(2)
        below[box, neuron] = torch.maximum(below[box, neuron], floor)
        above[box, neuron] = torch.minimum(above[box, neuron], -ceiling)

    def _backward(
        self, layers: list[Layer], low: Tensor, high: Tensor, rows: Rows
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The rows' linear lower bounds: slope [K, R, n], least value [K, R], coefficients [K, R, d] at each ReLU."""
        coefficient, constant = rows.weight, rows.offset
        passed = []
        for layer, weight, bias in zip(layers[::-1], self.weights[:0:-1], self.biases[:0:-1], strict=True):
            constant = constant + coefficient @ bias
            coefficient = coefficient @ weight
            passed.append(coefficient)
            constant = constant + 2 * torch.bmm(coefficient.clamp(max=0), layer.error[:, :, None]).squeeze(2)
            kept = (layer.above > -layer.below).to(low.dtype)
            coefficient = coefficient.clamp(min=0) * kept[:, None] + coefficient.clamp(max=0) * layer.ratio[:, None]
        constant = constant + coefficient @ self.biases[0]
        slope = coefficient @ self.weights[0]
        least = torch.bmm(slope.clamp(min=0), low[:, :, None]) + torch.bmm(slope.clamp(max=0), high[:, :, None])
        return slope, constant + least.squeeze(2), passed[::-1]


def chain_of(graph: Graph, dtype: torch.dtype) -> Chain | None:
    """The graph as a chain, its matrices computed in float64 by sending unit vectors through the linear parts and the
    origin through the whole maps; None if it is none."""
    graph = _copy(graph)
    value, origin, units = graph.input, *_start(graph.input_shape)
    weights, biases = [], []
    for node in graph.nodes:
        if [i for i in node.inputs if not graph.is_constant(i)] != [value]:
            return None
        rule = rule_of(graph, node)
        if node.op == "relu":
            weights.append(flattened(units).T)
            biases.append(origin.flatten())
            origin, units = _start(tuple(origin.shape[1:]))
        elif isinstance(rule, Affine):
            (position,) = active(graph, node)
            args = affine.arguments(graph, node, {value: units.shape[1:]})
            origin, units = graph.step(node, {value: origin}), affine.forward(rule, units, position, args, node.attrs)
        else:
            return None
        if math.prod(origin.shape[1:]) > MAX_WIDTH:
            return None
        value = node.name
    weights.append(flattened(units).T)
    biases.append(origin.flatten())
    if value != graph.output:
        return None
    return Chain([w.to(dtype).contiguous() for w in weights], [b.to(dtype).contiguous() for b in biases])


def _copy(graph: Graph) -> Graph:
    twin = Graph(
        list(graph.nodes),
        graph.constants,
        input=graph.input,
        output=graph.output,
        input_shape=graph.input_shape,
        output_shape=graph.output_shape,
    )
    return twin.double()


def _start(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The origin [1, *shape] and every unit vector [size, *shape] of a shape, in float64."""
    size = math.prod(shape)
    return torch.zeros(1, *shape).double(), torch.eye(size).double().reshape(size, *shape)
