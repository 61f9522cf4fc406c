"""The layers with weights that a graph holds, for measures of weights."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.graph.ir import Graph
from withstand.graph.model import Model

WEIGHTED = ("linear", "conv", "conv_transpose")
"""Operators whose second and third inputs are weights and biases."""


@dataclass(frozen=True)
class Layer:
    """A fully connected layer or convolution.

    name: the node's. constants: the names of its weight and, if it has one, its bias. weight: [out, in / groups,
    *kernel].
    """

    name: str
    op: str
    constants: tuple[str, ...]
    weight: Tensor
    groups: int = 1

    @property
    def neurons(self) -> int:
        """Outputs of the layer, or channels."""
        return self.weight.shape[0]

    @property
    def weights(self) -> int:
        """Weights of one neuron."""
        return math.prod(self.weight.shape[1:])


def graph_of(model: Model) -> Graph:
    """The model's graph; raises InputError, with the reason, where it has none."""
    if model.graph is None:
        raise InputError(f"The weights of {model.name} cannot be listed: {model.why_no_graph}")
    return model.graph


def layers_of(graph: Graph) -> list[Layer]:
    """The layers with constant weights, in order; weights that several nodes share count once."""
    found: dict[str, Layer] = {}
    for node in graph.walk():
        if node.op not in WEIGHTED or not graph.is_constant(node.inputs[1]):
            continue
        weight = graph.constant(node.inputs[1])
        groups = node.attrs.get("groups", 1)
        if node.op == "conv_transpose":
            weight = _transposed(weight, groups)
        held = tuple(name for name in node.inputs[1:] if graph.is_constant(name))
        found.setdefault(node.inputs[1], Layer(node.name, node.op, held, weight, groups))
    if not found:
        raise InputError(
            "The model has no fully connected layer and no convolution, so there are no weights to measure."
        )
    return list(found.values())


def held_fixed(graph: Graph, layers: list[Layer]) -> list[str]:
    """Constants of floats, more than one number each, that no layer owns: names."""
    owned = {name for layer in layers for name in layer.constants}
    return [
        name
        for name, value in graph.constants.items()
        if name not in owned and value.is_floating_point() and value.numel() > 1
    ]


def vector(graph: Graph, layers: list[Layer]) -> Tensor:
    """All weights and biases of the layers as one float64 vector."""
    return torch.cat([graph.constant(name).double().flatten() for layer in layers for name in layer.constants])


def _transposed(weight: Tensor, groups: int) -> Tensor:
    """[in, out / groups, *kernel] as [out, in / groups, *kernel]."""
    parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return parts.transpose(1, 2).reshape(-1, *parts.shape[1:2], *weight.shape[2:])
