"""Lowerings of ATen operations: one function an operation, registered by its name in any file of this folder.

A function takes the builder and the operation's own arguments; it is kept whole by the capture, so that, for example,
softplus does not fall apart into a choice between branches. Operations without a function are decomposed by torch.
"""

from typing import Any

import torch

from withstand.graph.builder import Array, Unsupported, Value, number
from withstand.graph.lowerings import Lowerings

_LOWERINGS = Lowerings(__name__)
captures = _LOWERINGS.register
"""Register a function as the lowering of these ATen operations (all overloads)."""
table = _LOWERINGS.table
"""All lowerings by ATen name, without overload."""


def array(x: Any) -> Array:
    """A number as a constant; arrays as they are."""
    if isinstance(x, Value | torch.Tensor):
        return x
    if x is None:
        raise Unsupported("lacks an operand")
    return number(x)


def spread(x: Any, rank: int) -> list[int]:
    """An int or a list of one, for each of `rank` axes."""
    values = [x] if isinstance(x, int) else list(x)
    return values * rank if len(values) == 1 else values


def listed(dims: Any, rank: int) -> list[int]:
    """Axes given as an int, a list or nothing (all), each >= 0."""
    if dims is None or dims == []:
        return list(range(rank))
    return [d % rank for d in ([dims] if isinstance(dims, int) else dims)]
