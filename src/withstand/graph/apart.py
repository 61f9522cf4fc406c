"""Whether the graph of a module computes the module's own function up to rounding, and if not, why."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from withstand.graph.agreement import agree, difference, room

if TYPE_CHECKING:
    from withstand.graph.model import Model

PART = 256
"""Rows of one call."""

WORDS = "so what is proved of the graph does not hold for it; build it in {dtype} throughout to prove something."


def works_in_another_type(program: "torch.export.ExportedProgram", name: str, dtype: torch.dtype) -> str | None:
    """Why a program is not its graph, which computes in `dtype`: the first of its steps, or its input, that holds
    floats of another type, so that it rounds where the graph does not. Weights merely kept in another type do not."""
    given = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op != "call_function" and node.name not in given:
            continue
        for value in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype:
                other, own = _of(value.dtype), _of(dtype)
                where = _place(node)
                return f"{name} computes in {other}{where} and its graph in {own}, {WORDS.format(dtype=own)}"
    return None


def disagrees(model: "Model", x: Tensor) -> str | None:
    """Why a model's graph is not its module, on inputs x [N, *input_shape]: their answers differ by more than rounding.

    The module has to answer on all of x.
    """
    graph = model.graph
    if graph is None or model.module is graph or model.differs is not None:
        return model.differs
    with torch.no_grad():
        for part in x.split(PART):
            ours, theirs = graph(part).cpu().numpy(), model.given(part).cpu().numpy()
            if not agree(ours, theirs, model.dtype.itemsize, room(graph, part)):
                gap = difference(ours, theirs)
                told = f"{model.name} and its captured graph differ by {gap:.2g} on the data"
                return f"{told}, so what is proved of the graph does not hold for the module."
    return None


def _of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _place(node: Any) -> str:
    stack: dict[str, tuple[str, Callable[..., Any]]] = node.meta.get("nn_module_stack") or {}
    path = next((entry[0] for entry in reversed(list(stack.values())) if entry[0]), "")
    return f" in '{path}'" if path else ""
