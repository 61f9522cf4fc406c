"""Captures torch modules as op graphs, through torch.export on one sample."""

import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.graph.agreement import BATCH, DRAWS, agree, difference, room
from withstand.graph.aten_ops import table
from withstand.graph.aten_walk import CaptureError, lower_program
from withstand.graph.ir import Graph
from withstand.graph.model import Model
from withstand.graph.simplify import simplified


def capture(module: nn.Module, input_shape: Sequence[int], name: str = "model") -> Graph:
    """The graph of a module in evaluation mode, for inputs [B, *input_shape] of any batch.

    The module is exported as it runs on one sample and the graph maps that over the batch; it is then compared with
    the module on three random samples of several scales (tolerance 1e-4 of the largest output, at least 1; 1e-9 in
    float64). The module's mode is restored. Errors: CaptureError, one sentence with the construct that cannot be
    captured.
    """
    with evaluation(module), quiet():
        program, example = exported(module, input_shape, name)
        graph = simplified(lower_program(program, name))
        compare(module, graph, example.expand(BATCH, *input_shape), name)
    return graph


def exported(module: nn.Module, input_shape: Sequence[int], name: str) -> "tuple[torch.export.ExportedProgram, Tensor]":
    """A module, in the mode it is in, as a program for one sample, and that sample [1, *input_shape].

    Errors: CaptureError, one sentence with the construct that cannot be exported.
    """
    example = torch.rand(1, *input_shape, dtype=_dtype(module), device=_device(module))
    try:
        program = torch.export.export(module, (example,), strict=False)
        return program.run_decompositions(_decompositions()), example
    except Exception as error:
        raise CaptureError(_why(name, error)) from error


def from_module(module: nn.Module, input_shape: Sequence[int], name: str = "model") -> Model:
    """The model of a module; where it cannot be captured it has no graph and `why_no_graph` says why."""
    wide = (torch.float32, torch.float64)
    notes = () if _dtype(module) in wide else (f"The graph of {name} computes in float32.",)
    try:
        graph = capture(module, input_shape, name)
    except CaptureError as error:
        example = torch.zeros(1, *input_shape, dtype=_dtype(module), device=_device(module))
        with evaluation(module), torch.no_grad():
            answer = module(example)
        if not isinstance(answer, Tensor):
            what = type(answer).__name__
            raise InputError(
                f"{name} returns a {what} where one tensor is needed, so wrap it to return one."
            ) from error
        output_shape = tuple(answer.shape[1:]) or (1,)
        return Model(name, None, module, tuple(input_shape), output_shape, why_no_graph=str(error))
    return Model(name, graph, module, graph.input_shape, graph.output_shape, notes=notes)


def from_program(program: "torch.export.ExportedProgram", name: str = "model") -> Model:
    """The model of an exported program (one float input with the batch first), compared with it on random samples.

    Errors: CaptureError, one sentence with the construct that cannot become a graph.
    """
    with quiet():
        graph = simplified(lower_program(program.run_decompositions(_decompositions()), name))
        (given,) = program.graph_signature.user_inputs
        (example,) = (node.meta["val"] for node in program.graph.nodes if node.name == given)
        rows = example.shape[0] if isinstance(example.shape[0], int) else BATCH
        compare(program.module(), graph, torch.zeros(rows, *graph.input_shape, dtype=example.dtype), name)
    return Model(name, graph, graph, graph.input_shape, graph.output_shape)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings, log lines and program listings that torch.export writes."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Within it, the module is in evaluation mode and attention runs as written; modes come back as they were."""
    modes = {m: m.training for m in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, mode in modes.items():
            part.training = mode


def _first(module: nn.Module) -> Tensor:
    tensors = [*module.parameters(), *module.buffers()]
    return next((t for t in tensors if t.is_floating_point()), torch.zeros(()))


def _dtype(module: nn.Module) -> torch.dtype:
    return _first(module).dtype


def _device(module: nn.Module) -> torch.device:
    return _first(module).device


def _decompositions() -> dict:
    return _rules(frozenset(torch.ops))


@lru_cache(1)
def _rules(namespaces: frozenset[str]) -> dict:
    """torch's decompositions, without the operations that have a lowering of their own.

    namespaces: of the operations there are. To collect the table takes a quarter of an export, so it is kept until a
    package brings more.
    """
    kept = table()
    rules = torch.export.default_decompositions()
    for op in list(rules.keys()):
        if getattr(op, "namespace", "") == "aten" and str(op).split(".")[1] in kept:
            rules.pop(op)
    return dict(rules.items())


def _why(name: str, error: Exception) -> str:
    """A sentence with the line of the user's code at which the export stopped."""
    ours, libraries = str(Path(__file__).parent), str(Path(torch.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((ours, libraries, "<"))]
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    what = f"a construct torch.export refuses ({reason})"
    if "data-dependent" in str(error) or "GuardOnDataDependent" in type(error).__name__:
        what = "a decision that depends on the values of the input"
    line = theirs[-1] if theirs else None
    where = f" at {Path(line.filename).name}:{line.lineno} (`{line.line}`)" if line else ""
    return f"{name} holds {what}{where}, so it cannot be captured as a graph."


def compare(module: nn.Module, graph: Graph, like: Tensor, name: str) -> None:
    """Raise CaptureError where a module and its graph differ on random samples of several scales.

    like: [B, *shape], of the samples' shape, type and place.
    """
    generator = torch.Generator().manual_seed(2)
    for scale, draw in DRAWS:
        x = (scale * draw(like.shape, generator=generator)).to(graph.dtype)
        with torch.no_grad():
            theirs = module(x.to(like)).to(graph.dtype).cpu().numpy()
            ours = graph(x).numpy()
        theirs = theirs[:, None] if theirs.ndim == 1 else theirs
        if ours.shape != theirs.shape:
            shapes = f"{theirs.shape} instead of {ours.shape}"
            raise CaptureError(
                f"{name} gives outputs of shape {shapes} on {len(x)} samples: its samples are not apart."
            )
        if not agree(ours, theirs, like.dtype.itemsize, room(graph, x)):
            gap = f"differ by {difference(ours, theirs):.2g} on random inputs"
            reason = "probably because it mixes the samples of a batch, keeps a state or is random"
            raise CaptureError(f"{name} and its captured graph {gap}, {reason}.")
