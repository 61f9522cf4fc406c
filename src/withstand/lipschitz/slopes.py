"""How steep the nodes that are not affine are over all inputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from withstand.bounds.relax import derivative
from withstand.bounds.rules.gated import INFLECTION
from withstand.core.errors import InputError
from withstand.graph.ir import Node

Slopes = tuple[float, float]
"""The least and the largest slope of a function of one number."""

ROOM = 1e-12
"""Outward widening of slopes that are found by evaluating a derivative."""


def _gated(op: str) -> Callable[..., Slopes]:
    """f' is least and largest where f bends from concave to convex and back."""

    def slopes(**attrs: Any) -> Slopes:
        bend = INFLECTION[attrs.get("approximate", "none") if op == "gelu" else op]
        low, high = derivative(op, torch.tensor([-bend, bend], dtype=torch.float64), attrs).tolist()
        return low - ROOM, high + ROOM

    return slopes


def _between(low: float, high: float) -> Callable[..., Slopes]:
    return lambda **attrs: (low, high)


SLOPES: dict[str, Callable[..., Slopes]] = {
    "relu": _between(0.0, 1.0),
    "leaky_relu": lambda slope: (slope, 1.0),
    "elu": lambda alpha: (0.0, max(1.0, alpha)),
    "clip": lambda **ends: (0.0, 1.0),
    "abs": _between(-1.0, 1.0),
    "sigmoid": _between(0.0, 0.25),
    "tanh": _between(0.0, 1.0),
    "softplus": _between(0.0, 1.0),
    "erf": _between(0.0, 2 / math.sqrt(math.pi) + ROOM),
    "sin": _between(-1.0, 1.0),
    "cos": _between(-1.0, 1.0),
    "silu": _gated("silu"),
    "gelu": _gated("gelu"),
}
"""By operator of one number, a function of its attributes."""


def slopes(node: Node) -> Slopes | None:
    """The slopes of a function of one number, or None where the node is none, or one without limits to its slope."""
    found = SLOPES.get(node.op)
    return None if found is None else found(**node.attrs)


def gain(node: Node, inner: Sequence[float], shapes: Mapping[str, torch.Size], p: float) -> float:
    """The constant of a node that bends, in the norm p (1, 2 or inf), from those of its inputs.

    Raises InputError where the node has no constant that holds over all inputs.
    """
    limits = slopes(node)
    if limits is not None:
        return max(map(abs, limits)) * inner[0]
    if node.op not in GAINS:
        raise InputError(
            f"Operator {node.op!r} at node {node.name!r} has no Lipschitz constant over all inputs; "
            "bound this model by another method, such as crown."
        )
    return GAINS[node.op](node, inner, shapes, p)


def _softmax(node: Node, inner: Sequence[float], shapes: Mapping[str, torch.Size], p: float) -> float:
    """The derivative diag(s) - s s^T is symmetric with absolute row sums 2 s (1 - s), at most one half."""
    return inner[0] / 2


def _log_softmax(node: Node, inner: Sequence[float], shapes: Mapping[str, torch.Size], p: float) -> float:
    """The derivative I - 1 s^T is convex in s, so its norm is largest at a corner of the simplex."""
    count = shapes[node.name][node.attrs["dim"] - 1]
    limits = {1: max(1.0, count - 1.0), 2: math.sqrt(count) * (1 + ROOM), math.inf: 2.0}
    return limits[p] * inner[0]


def _extremum(node: Node, inner: Sequence[float], shapes: Mapping[str, torch.Size], p: float) -> float:
    """A maximum moves by no more than the one of its inputs that moves most. Broadcasting repeats an input."""
    size = math.prod(shapes[node.name])
    read = [name for name in dict.fromkeys(node.inputs) if name in shapes]
    copies = [size / math.prod(shapes[name]) for name in read]
    return _p_sum([k * c ** (1 / p) for k, c in zip(inner, copies, strict=True)], p)


def _max_pool(node: Node, inner: Sequence[float], shapes: Mapping[str, torch.Size], p: float) -> float:
    """Every window moves by no more than its input that moves most; an input counts in every window that it is in."""
    windows = 1
    attrs = node.attrs
    sizes = shapes[node.name][1:]
    for out, kernel, stride, dilation in zip(sizes, attrs["kernel"], attrs["stride"], attrs["dilation"], strict=True):
        places = torch.arange(out)[:, None] * stride + torch.arange(kernel) * dilation
        windows *= int(places.flatten().bincount().max())
    return windows ** (1 / p) * inner[0]


def _p_sum(values: Sequence[float], p: float) -> float:
    return max(values) if p == math.inf else sum(value**p for value in values) ** (1 / p) * (1 + ROOM)


GAINS: dict[str, Callable[..., float]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "max": _extremum,
    "min": _extremum,
    "max_pool": _max_pool,
}
"""By operator that is no function of one number."""
