"""Compares a graph read from ONNX with onnxruntime, and finds the first node that differs."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from withstand.core.errors import InputError, ToolFault
from withstand.graph.builder import Value
from withstand.graph.ir import Graph
from withstand.graph.replay import OnnxSession

if TYPE_CHECKING:
    import onnx

RELATIVE = {8: 1e-9, 4: 1e-4, 2: 1e-2}
"""How far two ways of computing a network may differ, as a share of the largest output, by the bytes of its type."""

ROUNDINGS = 64
"""Roundings of the largest value on the way that outputs may differ by."""

DRAWS = ((0.1, torch.rand), (1.0, torch.rand), (1.0, torch.randn), (10.0, torch.randn))
BATCH = 3


def check_against_onnxruntime(
    proto: "onnx.ModelProto",
    source: bytes | Path,
    raw: Graph,
    graph: Graph,
    views: dict[str, Value],
    name: str,
    loosely: bool = False,
) -> str:
    """Outputs of the graph and of onnxruntime on random inputs of several scales must agree. Tells by which runtime.

    On one sample and on a batch of three; tolerance 1e-4 (in float64 1e-9) of the largest finite output in size (at
    least 1; loosely: 1e-2, for a network that rounds to half precision), and infinities and NaNs at the same places.
    Errors: InputError when the file mixes the samples of a batch, else ToolFault naming the first node that differs.
    """
    session = OnnxSession(source)
    bytes = 2 if loosely else np.dtype(session.dtype).itemsize
    generator = torch.Generator().manual_seed(1)
    for scale, draw in DRAWS:
        x = (scale * draw(BATCH, *graph.input_shape, generator=generator)).to(graph.dtype)
        alone = np.concatenate([session(row[None].numpy()) for row in x])
        with torch.no_grad():
            ours = graph(x).numpy()
        if not agree(ours, alone, bytes, room(graph, x)):
            where = _first_difference(proto, raw, views, x[:1], session)
            raise ToolFault(
                f"The graph read from '{name}' and onnxruntime disagree by {difference(ours, alone):.2g}{where}."
            )
        together = session(x.numpy())
        if not agree(together, alone, bytes, room(graph, x)):
            raise InputError(f"'{name}' mixes the samples of a batch, so export it with a batch of 1.")
    return session.runtime


def room(graph: Graph, x: torch.Tensor) -> float:
    """What sums in another order may add to a difference at inputs x: roundings of the largest value on the way, which
    may cancel."""
    with torch.no_grad():
        largest = max(float(value.abs().nan_to_num(0.0, 0.0, 0.0).max()) for value in graph.trace(x).values())
    return ROUNDINGS * torch.finfo(graph.dtype).eps * largest


def agree(ours: np.ndarray, theirs: np.ndarray, bytes: int, room: float = 0.0) -> bool:
    """Whether outputs agree up to rounding in a type of so many bytes, infinities and NaNs at the same places. room: as
    the function of that name tells."""
    if ours.shape != theirs.shape:
        return False
    finite = np.isfinite(theirs)
    if not np.array_equal(np.isfinite(ours), finite):
        return False
    size = max(1.0, float(np.abs(theirs[finite]).max())) if finite.any() else 1.0
    return difference(ours, theirs) * size <= RELATIVE[bytes] * size + room


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference relative to the largest value, infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    finite = np.isfinite(theirs) & np.isfinite(ours)
    gaps, size = np.abs(ours - theirs)[finite], np.abs(theirs)[finite]
    return float(gaps.max() / max(1.0, float(size.max()))) if finite.any() else 0.0


def _first_difference(
    proto: "onnx.ModelProto",
    raw: Graph,
    views: dict[str, Value],
    x: torch.Tensor,
    session: OnnxSession,
) -> str:
    """Words that name the first node whose value differs on one sample."""
    import onnx
    import onnxruntime

    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    made = [(o, node) for node in proto.graph.node for o in node.output if o in views and o]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(o) for o, _ in made)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    row = x.numpy().astype(session.dtype)
    try:
        runner = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        theirs = runner.run(None, {session.input_name: row[0] if session.rows is None else row})
    except Exception:
        return ", and the file does not run on one sample node by node"
    with torch.no_grad():
        ours = raw.trace(x)
    for (output, node), value in zip(made, theirs):
        mine = ours[views[output].name].reshape(views[output].shape).numpy()
        if not agree(mine, np.asarray(value, mine.dtype), np.dtype(session.dtype).itemsize):
            return f", first at node '{node.name or output}' ({node.op_type})"
    return " only after all nodes, so a simplification is wrong"
