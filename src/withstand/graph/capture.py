"""Captures torch modules as op graphs, through torch.export on one sample."""

import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.graph.agreement import BATCH, DRAWS, agree, difference, room
from withstand.graph.apart import works_in_another_type
from withstand.graph.aten_ops import table
from withstand.graph.aten_walk import CaptureError, lower_program
from withstand.graph.conditions import Conditions, conditions
from withstand.graph.deployed import Program
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
        return _captured(module, _random(module, input_shape), name).graph


@dataclass(frozen=True)
class _Captured:
    """A graph, why it is another function than its module (None: it is the same), and what the module refuses."""

    graph: Graph
    differs: str | None
    refuses: str | None


def _captured(module: nn.Module, like: Tensor, name: str) -> _Captured:
    program, _ = exported(module, like.shape[1:], name, like[:1])
    graph = simplified(lower_program(program, name))
    differs = works_in_another_type(program, name, graph.dtype)
    return _Captured(graph, differs, compare(module, graph, like, name, loosely=differs is not None))


def exported(
    module: nn.Module, input_shape: Sequence[int], name: str, sample: Tensor | None = None
) -> "tuple[torch.export.ExportedProgram, Tensor]":
    """A module, in the mode it is in, as a program for one sample, and that sample [1, *input_shape].

    sample: one that the module takes (a random one unless given). Conditions by which the module refuses inputs are no
    part of the program (see `withstand.graph.conditions`). Errors: CaptureError, one sentence with the construct that
    cannot be exported.
    """
    example = _random(module, input_shape)[:1] if sample is None else sample
    try:
        with Conditions(conditions(module, example)):
            program = torch.export.export(module, (example,), strict=False)
        return program.run_decompositions(_decompositions()), example
    except Exception as error:
        raise CaptureError(_why(name, error)) from error


def from_module(
    module: nn.Module, input_shape: Sequence[int], name: str = "model", like: Tensor | None = None
) -> Model:
    """The model of a module; where it cannot be captured it has no graph and `why_no_graph` says why.

    like: some inputs [B, *input_shape] that the module takes, of the type it takes (random ones unless given).
    """
    like = _random(module, input_shape) if like is None else like
    like = like.repeat(-(-BATCH // len(like)), *(1,) * (like.dim() - 1))[:BATCH]
    takes = like.dtype
    try:
        with evaluation(module), quiet():
            found = _captured(module, like, name)
    except CaptureError as error:
        with evaluation(module), torch.no_grad():
            answer = module(like.clone())
        if not isinstance(answer, Tensor):
            what = type(answer).__name__
            raise InputError(
                f"{name} returns a {what} where one tensor is needed, so wrap it to return one."
            ) from error
        output_shape = tuple(answer.shape[1:]) or (1,)
        return Model(name, None, module, tuple(input_shape), output_shape, why_no_graph=str(error), takes=takes)
    graph, notes = found.graph, () if found.refuses is None else (found.refuses,)
    shapes = graph.input_shape, graph.output_shape
    return Model(name, graph, module, *shapes, notes=notes, differs=found.differs, takes=takes)


def from_program(program: "torch.export.ExportedProgram", name: str = "model") -> Model:
    """The model of an exported program (one float input with the batch first), compared with it on random samples.

    Errors: CaptureError, one sentence with the construct that cannot become a graph.
    """
    with quiet():
        given = Program(program)
        ran = program.run_decompositions(_decompositions())
        graph = simplified(lower_program(ran, name))
        differs = works_in_another_type(ran, name, graph.dtype)
        like = torch.zeros(given.rows or BATCH, *graph.input_shape, dtype=given.takes)
        compare(given, graph, like, name, loosely=differs is not None)
    return Model(name, graph, given, graph.input_shape, graph.output_shape, differs=differs, takes=given.takes)


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


def _random(module: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """Random inputs [3, *input_shape] in [0, 1], of the type and at the place of the module's weights."""
    tensors = [*module.parameters(), *module.buffers()]
    first = next((t for t in tensors if t.is_floating_point()), torch.zeros(()))
    return torch.rand(BATCH, *input_shape, dtype=first.dtype, device=first.device)


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
    if "quantized" in reason:
        return f"{name} holds layers quantised to whole numbers, which torch.export does not take, so it has no graph."
    if "data-dependent" in str(error) or "GuardOnDataDependent" in type(error).__name__:
        what = "a decision that depends on the values of the input"
    line = theirs[-1] if theirs else None
    where = f" at {Path(line.filename).name}:{line.lineno} (`{line.line}`)" if line else ""
    return f"{name} holds {what}{where}, so it cannot be captured as a graph."


def compare(module: nn.Module, graph: Graph, like: Tensor, name: str, loosely: bool = False) -> str | None:
    """Raise CaptureError where a module and its graph differ on inputs `like` or random samples of several scales.

    like: [B, *shape], inputs that the module takes, of the samples' type and place. loosely: the module is known to
    round where the graph does not. Returns a sentence about the random samples that the module refuses to answer on
    (None: there are none).
    """
    generator, refused = torch.Generator().manual_seed(2), None
    draws = [(scale * draw(like.shape, generator=generator)).to(like) for scale, draw in DRAWS]
    for number, x in enumerate([like, *draws]):
        try:
            with torch.no_grad():
                theirs = module(x.clone()).to(graph.dtype).cpu().numpy()
        except Exception as error:
            if number == 0:
                raise CaptureError(f"{name} does not run on {len(x)} samples: {_line(error)}") from error
            refused = (
                refused or f"{name} refuses inputs outside its domain ({_line(error)}); it is asked within it only."
            )
            continue
        with torch.no_grad():
            ours = graph(x.to(graph.dtype).cpu()).numpy()
        theirs = theirs.reshape(-1, 1) if theirs.ndim < 2 else theirs
        if ours.shape != theirs.shape:
            shapes = f"{theirs.shape} instead of {ours.shape}"
            raise CaptureError(
                f"{name} gives outputs of shape {shapes} on {len(x)} samples: its samples are not apart."
            )
        bytes = 2 if loosely else graph.dtype.itemsize
        if not agree(ours, theirs, bytes, room(graph, x.to(graph.dtype).cpu())):
            gap = f"differ by {difference(ours, theirs):.2g} on random inputs"
            reason = "probably because it mixes the samples of a batch, keeps a state or is random"
            raise CaptureError(f"{name} and its captured graph {gap}, {reason}.")
    return refused


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
