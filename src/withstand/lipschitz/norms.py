"""Operator norms of linear maps from above, with room for rounding: certified."""

import math

import torch

from withstand.graph.ir import Node
from withstand.lipschitz.convolution import symbol_norm
from withstand.lipschitz.maps import LinearMap, absolute
from withstand.lipschitz.spectral import EPS, matrix_norm, spectral

DENSE = 2048
"""Maps whose smaller side is at most this long are written out as matrices."""

ENTRIES = 2**24
"""The largest matrix that is written out, in numbers."""


def is_small(map: LinearMap) -> bool:
    """Whether a map is written out as a matrix."""
    return min(map.inputs, map.outputs) <= DENSE and map.inputs * map.outputs <= ENTRIES


def upper(map: LinearMap, p: float) -> float:
    """A certified upper bound of the map's norm in p: 1, 2 or inf.

    That of its matrix, exact up to rounding, where the map is small; else the product of its nodes' norms, sums where
    their results add up. Convolutions are bounded as the layers they are (`withstand.lipschitz.convolution`).
    """
    if not map.nodes:
        return 1.0
    return matrix_norm(map.matrix(), p) if is_small(map) else _stepwise(map, p)


def _stepwise(map: LinearMap, p: float) -> float:
    known = {map.source: 1.0}
    for node in map.nodes:
        known[node.name] = sum(_node_norm(map, node, i, p) * known[name] for i, name in map.reads(node, known))
    return known[map.target]


def _node_norm(map: LinearMap, node: Node, position: int, p: float) -> float:
    rows, columns = _sums(map, node, position)
    if p != 2:
        return columns if p == 1 else rows
    found = math.sqrt(rows * columns) * (1 + EPS)
    if node.op in ("conv", "conv_transpose"):
        return min(found, symbol_norm(node, map.graph.constant(node.inputs[1]), map.shapes))
    if node.op == "linear" and max(map.graph.constant(node.inputs[1]).shape) <= 2 * DENSE:
        return min(found, float(spectral(map.graph.constant(node.inputs[1]))))
    return found


def _sums(map: LinearMap, node: Node, position: int) -> tuple[float, float]:
    """The largest absolute row sum and column sum of one node: its norms in inf and 1. The product of both is at least
    the square of its norm in 2 (Schur)."""
    ones = torch.ones(1, *map.shapes[node.inputs[position]], dtype=torch.float64)
    with torch.enable_grad():
        image = absolute(map.graph, node, position, ones.requires_grad_(), map.shapes)
        (back,) = torch.autograd.grad(image.sum(), ones)
    room = 1 + (ones.numel() + image.numel()) * EPS
    return float(image.detach().abs().max()) * room, float(back.abs().max()) * room
