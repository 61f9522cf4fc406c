"""Lowers an exported torch program to an op graph, node by node."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from withstand.core.errors import InputError
from withstand.graph.aten_ops import table
from withstand.graph.builder import Builder, Unsupported, Value
from withstand.graph.ir import Graph

SILENT = ("_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range_for_size")


class CaptureError(InputError):
    """The network holds a construct that cannot become a graph; the message names it."""


def lower_program(
    program: "torch.export.ExportedProgram", name: str, held: Mapping[str, Tensor] | None = None
) -> Graph:
    """The graph of an exported program of one float input, as it runs on one sample.

    held: weights and buffers by name, instead of those stored in the program.
    Errors: CaptureError naming the operation, its place in the module, and how to add a rule.
    """
    walk = _Walk(program, name, stored(program) if held is None else held)
    outputs = [s.arg.name for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    if len(outputs) != 1 or len(program.graph_signature.output_specs) != 1:
        what = f"gives {len(outputs)} outputs" if len(outputs) != 1 else "changes its own buffers"
        raise CaptureError(f"{name} {what}, so wrap it to give one tensor and keep no state.")
    result = walk.values.get(outputs[0])
    if not isinstance(result, Value):
        raise CaptureError(f"The output of {name} does not depend on its input, so there is nothing to do.")
    return walk.builder.graph(result)


def stored(program: "torch.export.ExportedProgram") -> dict[str, Any]:
    """Weights, buffers and other constants of a program by name."""
    return {**program.constants, **program.state_dict}


class _Walk:
    def __init__(self, program: "torch.export.ExportedProgram", name: str, held: Mapping[str, Any]) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.dtype = _float_type(program)
        self.inputs = self._stored(program, held)
        for node in program.graph.nodes:
            if node.op == "placeholder" and node.name in self.inputs:
                self._start(node)
            elif node.op == "call_function":
                self.values[node.name] = self._call(node)

    def _stored(self, program: "torch.export.ExportedProgram", held: Mapping[str, Any]) -> list[str]:
        """Fetch weights and constants; give the names of the inputs."""
        inputs = []
        for spec in program.graph_signature.input_specs:
            target = spec.target
            if spec.kind == InputKind.USER_INPUT:
                inputs.append(spec.arg.name)
            elif target is not None:
                self.values[spec.arg.name] = self._constant(held.get(target))
        if len(inputs) != 1:
            raise CaptureError(f"{self.name} takes {len(inputs)} inputs, so wrap it to take one tensor.")
        return inputs

    def _start(self, node: fx.Node) -> None:
        example = node.meta["val"]
        if not isinstance(example, Tensor) or not example.is_floating_point():
            raise CaptureError(f"The input of {self.name} is not a float tensor, so wrap it to take one.")
        rows = example.shape[0]
        if not all(isinstance(s, int) for s in example.shape[1:]):
            raise CaptureError(f"Only the batch of {self.name} may be of open size, so export it with fixed sizes.")
        fixed = rows if isinstance(rows, int) else 1
        shape = (1, *(int(s) for s in example.shape[1:]))
        self.builder = Builder("input", shape, folded=False, exported_rows=fixed, dtype=self.dtype)
        self.values[node.name] = self.builder.input

    def _call(self, node: fx.Node) -> Any:
        mapped: Any = map_arg((node.args, dict(node.kwargs)), lambda n: self.values.get(n.name))
        args, kwargs = mapped
        target = node.target
        if not isinstance(target, torch._ops.OpOverload):
            return self._plain(node, target, args, kwargs)
        op = target._schema.name.split("::")[1]
        if op in SILENT:
            return None
        if torch.Tag.nondeterministic_seeded in target.tags and not _switched_off(op, args):
            raise CaptureError(
                f"{self._where(node)} draws random numbers, so {self.name} has no fixed graph; "
                "`withstand attack --eot 32` attacks averages of its answers."
            )
        if op == "sym_size":
            return args[0].shape[args[1]]
        if not any(isinstance(a, Value) for a in pytree.tree_leaves((args, kwargs))):
            return pytree.tree_map(self._constant, target(*args, **kwargs))
        return self._lower(node, target, op, args, kwargs)

    def _plain(self, node: fx.Node, target: Any, args: tuple, kwargs: dict) -> Any:
        if isinstance(target, torch._ops.HigherOrderOperator):
            raise CaptureError(f"{self._where(node)} is control flow, which a graph of fixed operations does not hold.")
        return target(*args, **kwargs)

    def _lower(self, node: fx.Node, target: Any, op: str, args: tuple, kwargs: dict) -> Any:
        rule = table().get(op) if target.namespace == "aten" else None
        where = self._where(node)
        types = {v.dtype for v in pytree.tree_leaves(node.meta.get("val")) if isinstance(v, Tensor)}
        if (torch.float64 in types) != (self.dtype == torch.float64) and any(t.is_floating_point for t in types):
            raise CaptureError(f"{where} mixes float64 with a smaller type, so build {self.name} in one type.")
        if rule is None:
            how = f"add a function with @captures('{op}') to a file in withstand/graph/aten_ops"
            raise CaptureError(f"There is no rule for {where[0].lower()}{where[1:]}, so {how} or do without it.")
        self.builder.label = node.name
        try:
            return rule(self.builder, *args, **kwargs)
        except Unsupported as error:
            raise CaptureError(f"{where} {error}, which is not supported.") from error
        except (RuntimeError, KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CaptureError(f"{where} cannot be captured with these arguments: {reason}") from error

    def _constant(self, value: Any) -> Any:
        """Weights and constants off the autograd tape, in the graph's type on the CPU."""
        if not isinstance(value, Tensor):
            return value
        value = value.detach().cpu()
        return value.to(self.dtype) if value.is_floating_point() else value

    def _where(self, node: fx.Node) -> str:
        """The operation and the module of the network it stands in."""
        stack = node.meta.get("nn_module_stack") or {}
        path = next((entry[0] for entry in reversed(list(stack.values())) if entry[0]), "")
        return f"The operation {node.target}" + (f" in '{path}'" if path else "")


def _switched_off(op: str, args: tuple) -> bool:
    """Dropout whose `train` argument is false, attention without dropout."""
    if op == "scaled_dot_product_attention":
        return len(args) < 5 or not args[4]
    return op.endswith("dropout") and len(args) > 2 and not args[2]


def _float_type(program: "torch.export.ExportedProgram") -> torch.dtype:
    """The type of the graph: float64 for a program whose input is that, else float32."""
    given = program.graph_signature.user_inputs
    types = {node.meta["val"].dtype for node in program.graph.nodes if node.name in given}
    return torch.float64 if types == {torch.float64} else torch.float32
