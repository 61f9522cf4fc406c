"""Interval bounds: every value between two numbers (Gowal et al. 2018, arXiv:1810.12715)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from withstand.bounds import affine, relax
from withstand.bounds.rule import Affine, Box, Elementwise, rule_of
from withstand.graph.ir import Graph, Node


def step(graph: Graph, node: Node, boxes: Mapping[str, Box]) -> Box:
    """The box of a node's value from the boxes of its inputs; infinite where infinite inputs leave NaN.

    Raises InputError when the node's operator has no rule.
    """
    rule = rule_of(graph, node)
    if isinstance(rule, Elementwise):
        low, high = relax.image(rule, *boxes[node.inputs[0]], node.attrs)
    elif isinstance(rule, Affine):
        inputs = [graph.constant(i) if graph.is_constant(i) else boxes[i] for i in node.inputs]
        low, high = affine.box(rule, inputs, node.attrs)
    else:
        low, high = rule.interval(*aligned(graph, node, boxes), **node.attrs)
    if bool((low.detach().sum() + high.detach().sum()).isnan()):
        return torch.where(low.isnan(), -torch.inf, low), torch.where(high.isnan(), torch.inf, high)
    return low, high


def aligned(graph: Graph, node: Node, boxes: Mapping[str, Box]) -> list[Box]:
    """The boxes of a node's inputs; constants get boxes of no width, with a batch axis of 1 and the others' rank."""
    rank = max(boxes[name][0].dim() for name in node.inputs if not graph.is_constant(name))
    found = []
    for name in node.inputs:
        if graph.is_constant(name):
            value = graph.constant(name)
            value = value.reshape(*(1,) * (rank - value.dim()), *value.shape)
            found.append((value, value))
        else:
            found.append(boxes[name])
    return found


def interval(graph: Graph, lo: Tensor, hi: Tensor) -> dict[str, Box]:
    """Bounds on every value of the graph for inputs between lo and hi [B, *input_shape].

    Differentiable in lo, hi and the graph's constants. Bounds are infinite where a function has a pole or no value.
    Raises InputError when an operator has no rule.
    """
    boxes = {graph.input: (lo, hi)}
    for node in graph.nodes:
        boxes[node.name] = step(graph, node, boxes)
    return boxes


def intersect(a: Box, b: Box) -> Box:
    """The common part of two sound boxes; where rounding leaves none, the first one. NaN in a box says nothing."""
    low, high = torch.fmax(a[0], b[0]), torch.fmin(a[1], b[1])
    empty = low > high
    return torch.where(empty, a[0], low), torch.where(empty, a[1], high)
