"""Which neuron of the checker's network each element of a graph is: two readers number the same neurons differently."""

import copy
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
import torch

from withstand.bounds.rule import Elementwise, rule_of
from withstand.checker.network import Activation, Affine, Network
from withstand.core.errors import InputError
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph
from withstand.graph.ops import OPS

Array = np.ndarray

PROBES = 3
"""Random inputs at which both networks are run."""

CLOSE = 1e-6
"""How far numbers may differ, as a share of the largest: a reader may fold layers in float32."""

GRID = np.array([-20.0, -3.0, -1.1, -0.4, 0.0, 0.3, 0.7, 2.0, 9.0])
"""Where activations are compared with each other."""

Numbers = Mapping[str, Array]

_KNOWN: WeakKeyDictionary[Graph, dict[str, Numbers]] = WeakKeyDictionary()


def numbers(graph: Graph, network: Network) -> Numbers:
    """The checker's numbers of the neurons that enter each element-wise activation of a graph, by the node's name: int
    [size] in row-major order. Activations match where both networks run through the same numbers.

    Raises InputError where the checker's network has no such activation.
    """
    known = _KNOWN.setdefault(graph, {})
    if network.digest not in known:
        known[network.digest] = _matched(graph, network)
    return known[network.digest]


def _matched(graph: Graph, network: Network) -> Numbers:
    made = torch.Generator().manual_seed(0)
    x = torch.rand(PROBES, *graph.input_shape, generator=made, dtype=torch.float64)
    if x[0].numel() != network.inputs:
        raise InputError(f"The graph has {x[0].numel()} inputs and the file for the checker {network.inputs}.")
    with torch.no_grad():
        values = copy.deepcopy(graph).double().trace(x)
    theirs = _values(network, flattened(x).numpy())
    free, found = list(network.activations), {}
    for node in graph.nodes:
        if not isinstance(rule_of(graph, node), Elementwise):
            continue
        run = OPS[node.op].run
        before = flattened(values[node.inputs[0]]).numpy()
        grid = (
            torch.from_numpy(GRID)[:, None].expand(len(GRID), before.shape[1]).reshape(-1, *values[node.name][0].shape)
        )
        after = flattened(run(grid, **node.attrs)).numpy()
        for step in free:
            order = _order(before, theirs[step.source])
            if order is not None and _close(after, _on_grid(step, before.shape[1])[:, order]):
                found[node.name] = order + step.neurons.start
                free.remove(step)
                break
        else:
            raise InputError(
                f"The checker's reading of the network has no activation like {node.name!r} ({node.op}, "
                f"{before.shape[1]} neurons); proofs about it have no certificates."
            )
    return found


def _values(network: Network, x: Array) -> dict[int, Array]:
    """All values of the checker's network at points x [K, inputs], without slack."""
    values = {0: x}
    for step in network.steps:
        if isinstance(step, Affine):
            parts = [m.forward(values[s]) for s, m in zip(step.sources, step.maps, strict=True)]
            values[step.out] = sum(parts[1:], parts[0]) + (0.0 if step.bias is None else step.bias)
        else:
            values[step.out] = step.function.value(values[step.source])
    return values


def _on_grid(step: Activation, size: int) -> Array:
    found = step.function.value(np.repeat(GRID[:, None], size, 1))
    return found if found.shape[1] == size else np.full((len(GRID), size), np.nan)


def _close(mine: Array, theirs: Array) -> bool:
    """Whether two arrays hold about the same numbers."""
    with np.errstate(invalid="ignore"):
        return bool((np.abs(mine - theirs) <= CLOSE * np.abs(mine).max(initial=1.0)).all())


def _order(mine: Array, theirs: Array) -> Array | None:
    """The column of `theirs` [K, n] that each column of `mine` is; None where they are not the same columns."""
    if mine.shape != theirs.shape:
        return None
    if _close(mine, theirs):
        return np.arange(mine.shape[1])
    order = np.empty(mine.shape[1], np.int64)
    order[np.argsort(mine[0], kind="stable")] = np.argsort(theirs[0], kind="stable")
    return order if _close(mine, theirs[:, order]) else None
