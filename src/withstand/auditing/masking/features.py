"""The features of a network: what its last linear layer reads."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from withstand.core.shapes import flattened
from withstand.graph.ir import Graph
from withstand.graph.model import Model


def features_of(model: Model, x: Tensor) -> tuple[Callable[[Tensor], Tensor], str]:
    """A function from a batch [B, *shape] to features [B, d], differentiable, and where they are read. x [1, *shape]:
    an input to try it on.

    What the last linear layer reads; the outputs themselves where there is no linear layer to be found.
    """
    module = model.module
    found = _in_graph(module) if isinstance(module, Graph) else _in_module(model)
    if found is not None:
        with torch.no_grad():
            tried = found(x)
        if tried is not None and tried.shape[0] == len(x) and tried.is_floating_point():
            return lambda batch: flattened(found(batch)), "input of the last linear layer"
    return lambda batch: flattened(model.given(batch)), "outputs"


def _in_graph(graph: Graph) -> Callable[[Tensor], Any] | None:
    last = next((node for node in reversed(graph.nodes) if node.op == "linear"), None)
    return None if last is None else lambda x: graph.trace(x)[last.inputs[0]]


def _in_module(model: Model) -> Callable[[Tensor], Any] | None:
    layers = [part for part in model.module.modules() if isinstance(part, nn.Linear)]
    if not layers:
        return None

    def read(x: Tensor) -> Tensor | None:
        seen: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in layers]
        try:
            model.given(x)
        finally:
            for hook in hooks:
                hook.remove()
        return seen[-1] if seen else None

    return read
