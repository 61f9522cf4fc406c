"""What both frontends build graphs with: values as one sample shows them, and nodes that hold any batch of them.

A frontend walks a network as it runs on a batch of one. What it sees there is a `Value`: a shape such as (1, 3, 8, 8)
whose leading 1 is the batch axis, or, where the network has folded the batch away, a shape without it. The node behind
it always holds the whole batch on its axis 0, so every lowering maps the network's function over the samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.graph.ir import Graph, Node
from withstand.graph.limits import too_large
from withstand.graph.ops import OPS

PROBE_BATCH = 2

GROW = {"pad", "expand", "max_pool", "avg_pool"}
"""Operations that may make more numbers of one value than it has."""

BROADCAST = {"add", "sub", "mul", "div", "max", "min", "where"}
"""Operations whose result has the shape that their arguments broadcast to."""


class Unsupported(InputError):
    """The network does something that no lowering expresses; the frontend adds where and how to extend."""


@dataclass(frozen=True)
class Value:
    """A value that depends on the input. `shape` is what a run on a batch of one shows.

    folded: the node's axis 0 is extra, its other axes are `shape`; else its axis 0 stands for shape[0] == 1.
    """

    name: str
    shape: tuple[int, ...]
    folded: bool

    def axis(self, axis: int) -> int:
        """The node's axis for an axis of `shape`."""
        return axis + 1 if self.folded else axis


Array = Value | Tensor


def number(value: float) -> Tensor:
    """A number as a constant, exactly; a node rounds it to the network's own type."""
    return torch.tensor(value, dtype=torch.float64)


class Builder:
    """Collects nodes and constants, and runs each node on a small random batch so that shapes are always known."""

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        *,
        folded: bool,
        exported_rows: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """exported_rows: the fixed batch that shapes written in the network count with. dtype: the type of its
        floats, which all float constants get."""
        self.input = Value(name, tuple(shape), folded)
        self.exported_rows, self.dtype = exported_rows, dtype
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}
        self.label = name
        sample_shape = self.input.shape if folded else self.input.shape[1:]
        generator = torch.Generator().manual_seed(0)
        self.samples = {name: torch.rand(PROBE_BATCH, *sample_shape, generator=generator).to(dtype)}
        self._by_id: dict[int, str] = {}
        self._kept: list[Tensor] = []

    def emit(self, op: str, *inputs: Array, folded: bool, **attrs: Any) -> Value:
        """Append a node named after the current label, and give its value."""
        names = tuple(i.name if isinstance(i, Value) else self._constant(i) for i in inputs)
        args = [self.samples[n] if isinstance(i, Value) else self.constants[n] for i, n in zip(inputs, names)]
        _check_size(op, args, attrs)
        with torch.no_grad():
            sample = OPS[op].run(*args, **attrs)
        name = self._unused(self.label)
        self.nodes.append(Node(name, op, names, attrs))
        self.samples[name] = sample
        shape = tuple(sample.shape[1:])
        return Value(name, shape if folded else (1, *shape), folded)

    def graph(self, output: Value) -> Graph:
        """The graph up to a value; a value without axes becomes one output."""
        if output.folded and output.shape[:1] == (1,) and len(output.shape) > 1:
            output = self.batched(output)
        if not self.samples[output.name].shape[1:]:
            output = self.emit("reshape", output, folded=True, shape=(1,))
        return Graph(
            self.nodes,
            self.constants,
            input=self.input.name,
            output=output.name,
            input_shape=tuple(self.samples[self.input.name].shape[1:]),
            output_shape=tuple(self.samples[output.name].shape[1:]),
            dtype=self.dtype,
        )

    def batched(self, value: Value) -> Value:
        """The same value with its leading 1 as the batch axis."""
        if not value.folded:
            return value
        if value.shape[:1] != (1,):
            raise Unsupported(f"works on {value.shape[:1]} rows made from one sample, where only one is understood")
        return self.emit("reshape", value, folded=False, shape=value.shape[1:])

    def single(self, value: Value) -> Value:
        """The same value with the batch folded away, so that all axes of its shape can be worked on."""
        return value if value.folded else self.emit("reshape", value, folded=True, shape=value.shape)

    def free(self, value: Value, *axes: int) -> Value:
        """The same value in a form in which these axes are not the batch."""
        return self.single(value) if 0 in axes else value

    def _constant(self, value: Tensor) -> str:
        if id(value) not in self._by_id:
            name = self._unused(f"{self.label}:constant")
            self.constants[name] = value.to(self.dtype) if value.is_floating_point() else value
            self._by_id[id(value)] = name
            self._kept.append(value)
        return self._by_id[id(value)]

    def _unused(self, name: str) -> str:
        taken, candidate, count = (self.samples, self.constants), name, 0
        while any(candidate in names for names in taken):
            count += 1
            candidate = f"{name}.{count}"
        return candidate


def _check_size(op: str, args: Sequence[Tensor], attrs: dict[str, Any]) -> None:
    """Raise Unsupported where the operation's result would be too large, which its shapes tell.

    Those of the commonest operations are told here: torch takes a second to load what computes without numbers.
    """
    if len(args) == 1 and op not in GROW:
        return
    try:
        if op in BROADCAST:
            shape = torch.broadcast_shapes(*(arg.shape for arg in args))
        elif op == "linear":
            shape = (*args[0].shape[:-1], args[1].shape[0])
        elif op == "conv":
            sides = zip(args[0].shape[2:], attrs["padding"], attrs["stride"])
            shape = (len(args[0]), args[1].shape[0], *((side + 2 * pad) // step + 1 for side, pad, step in sides))
        else:
            with torch.no_grad():
                shape = OPS[op].run(*(arg.to("meta") for arg in args), **attrs).shape
    except Exception:  # what cannot be told of shapes, or is wrong with them, the operation itself will say
        return
    why = too_large(shape)
    if why is not None:
        raise Unsupported(why)
