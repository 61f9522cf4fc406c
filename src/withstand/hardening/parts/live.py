"""A module's op graph whose constants are live: they are the module's parameters of now, or computed from them on the
autograd tape, so that bounds on the graph have gradients by the parameters.

A module is captured once. Lowering its program is traced by torch.fx, as a function from parameters and buffers to the
graph's constants (a batch normalisation's scale, say, or weights it was folded into); each call runs that trace.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from withstand.core.errors import InputError
from withstand.graph.agreement import BATCH
from withstand.graph.aten_walk import CaptureError, lower_program, stored
from withstand.graph.capture import compare, evaluation, exported, quiet
from withstand.graph.ir import Graph
from withstand.graph.simplify import simplify

KEPT_APART = (torch.ops.aten.detach.default, torch.ops.aten.clone.default)
"""Operations by which a graph keeps its constants apart from those of the module; a live graph does not."""


@dataclass(frozen=True)
class _Recipe:
    """A captured module. names: of the tensors it reads. fixed: those that are no longer parts of the module, but
    constants of its program. constants: from all tensors, in this order, to the graph's constants."""

    graph: Graph
    names: tuple[str, ...]
    fixed: Mapping[str, Tensor]
    constants: Callable[..., tuple[Tensor, ...]]


_KNOWN: "WeakKeyDictionary[nn.Module, dict[tuple[int, ...], _Recipe]]" = WeakKeyDictionary()
"""Captured modules by the shape of their input."""


def live(model: nn.Module, input_shape: Sequence[int], instead: Mapping[str, Tensor] | None = None) -> Graph:
    """The graph of a module as it evaluates inputs [B, *input_shape], with constants that carry gradients to the
    module's parameters. It is of this moment: after a step of an optimiser, ask again.

    instead: tensors by name to take in place of the module's own, such as a batch's statistics. Its type and device are
    the module's. Errors: CaptureError, one sentence with the construct that cannot be captured.
    """
    module = bare(model)
    held = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
    known = _KNOWN.setdefault(module, {})
    recipe = known.get(tuple(input_shape))
    if recipe is None or not held.keys() >= set(recipe.names) - recipe.fixed.keys():
        recipe = known[tuple(input_shape)] = _capture(module, tuple(input_shape))
    like = next(iter(held.values()), torch.zeros(()))
    held = {**recipe.fixed, **held, **(instead or {})}
    made = recipe.constants(*(held[name] for name in recipe.names))
    moved = [value.to(like) if value.is_floating_point() else value.to(like.device) for value in made]
    return recipe.graph.with_constants(dict(zip(recipe.graph.constants, moved, strict=True)))


def bare(model: nn.Module) -> nn.Module:
    """The module inside the wrapper of distributed training."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextmanager
def statistics(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it, a pass of the model notes the mean and variance by which each batch normalisation in training mode
    normalises, on the autograd tape, under the names of its running statistics.

    Raises InputError where one layer normalises twice in a pass.
    """
    found: dict[str, Tensor] = {}

    def noted(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if f"{name}.running_mean" in found:
                raise InputError(f"The batch normalisation {name!r} is used twice in a pass, so give each use its own.")
            x = args[0]
            axes = [axis for axis in range(x.dim()) if axis != 1]
            found[f"{name}.running_var"], found[f"{name}.running_mean"] = torch.var_mean(x, axes, correction=0)

        return hook

    layers = [(name, part) for name, part in bare(model).named_modules() if isinstance(part, _BatchNorm)]
    hooks = [part.register_forward_pre_hook(noted(name)) for name, part in layers if part.training]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _capture(module: nn.Module, input_shape: tuple[int, ...]) -> _Recipe:
    """Trace the module's lowering, then the rewrites of its graph, and compare the result with the module."""
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]), evaluation(module), quiet():
        program, example = exported(module, input_shape, "the model")
        read = {name: value for name, value in stored(program).items() if isinstance(value, Tensor)}
        try:
            lowered, first = _traced(lambda held: lower_program(program, "the model", held), read)
        except CaptureError as error:
            if "tracing tensor" not in str(error):
                raise
            where = str(error).partition(" cannot be captured")[0]
            raise CaptureError(
                f"{where} has a form that depends on the values of its weights, so bounds of it cannot be "
                "trained on; replace it."
            ) from error
        depends = _depending(first)
        free = {name: value for (name, value), one in zip(lowered.constants.items(), depends, strict=True) if one}
        graph, second = _traced(
            lambda held: simplify(lowered.with_constants({**lowered.constants, **held}), free.keys()), free
        )
        compare(module, graph, example.expand(BATCH, *input_shape), "the model")
    own = {*dict(module.named_parameters(remove_duplicate=False)), *dict(module.named_buffers())}
    fixed = {name: value.detach() for name, value in read.items() if name not in own}
    return _Recipe(graph, tuple(read), fixed, lambda *tensors: second(*compress(first(*tensors), depends)))


def _traced(make: Callable[[dict[str, Tensor]], Graph], read: Mapping[str, Tensor]) -> tuple[Graph, fx.GraphModule]:
    """A graph made from tensors by name, and the function from these to its constants, on which gradients flow."""
    graphs: list[Graph] = []

    def constants(*tensors: Tensor) -> tuple[Tensor, ...]:
        graphs.append(make(dict(zip(read, tensors, strict=True))))
        return tuple(graphs[-1].constants.values())

    like = [value.detach().cpu() for value in read.values()]
    traced = make_fx(constants)(*(value.float() if value.is_floating_point() else value for value in like))
    for node in list(traced.graph.nodes):
        if node.target in KEPT_APART or _narrows(node):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    graph = make(dict(zip(read, like, strict=True)))
    return graph, traced


def _narrows(node: fx.Node) -> bool:
    """Whether a node only changes the type of floating-point numbers; a live graph computes in the parameters' type."""
    if node.target is not torch.ops.aten._to_copy.default:
        return False
    before, after = (n.meta["val"].dtype for n in (node.args[0], node))  # type: ignore[union-attr]
    return before.is_floating_point and after.is_floating_point


def _depending(traced: fx.GraphModule) -> list[bool]:
    """Which results of a trace depend on what it reads."""
    reached: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder" or not reached.isdisjoint(node.all_input_nodes):
            reached.add(node)
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    return [value in reached for value in output.args[0]]  # type: ignore[union-attr]
