"""The op graph: nodes in order, constants by name, batch first, executable in torch with gradients."""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from withstand.graph.ops import OPS


@dataclass(frozen=True)
class Node:
    """One operation. `name` is also the name of the value it computes.

    `op` is a key of `withstand.graph.ops.OPS`; `inputs` name earlier nodes, constants or the graph's input;
    `attrs` are keyword arguments of the op's torch function (plain ints, floats, bools, strings, tuples of these).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Graph(torch.nn.Module):
    """A network as a list of nodes in execution order, with one batched input and one batched output.

    `input_shape` and `output_shape` are shapes of one sample, without the batch axis. Constants are buffers, so
    `.to(device)`, `.double()` and `state_dict()` work as on any module. Integer constants keep their type. Nodes and
    constants that the output does not depend on are dropped. `origin` is the graph that this one was simplified from,
    where it was: the operations as the network is run, whose roundings are those of a machine.
    """

    origin: "Graph | None"

    def __init__(
        self,
        nodes: list[Node],
        constants: Mapping[str, Tensor],
        *,
        input: str,
        output: str,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """dtype: the float type of a graph that holds no float constant; else theirs is the graph's."""
        super().__init__()
        self._bare = dtype
        self.nodes = _needed(nodes, output)
        self.input, self.output = input, output
        self.input_shape, self.output_shape = tuple(input_shape), tuple(output_shape)
        self._slots: dict[str, str] = {}
        self.keep_origin(None)
        used = dict.fromkeys(name for node in self.nodes for name in node.inputs if name in constants)
        for position, (name, value) in enumerate((name, constants[name]) for name in used):
            self._slots[name] = f"c{position}"
            self.register_buffer(f"c{position}", value.detach().clone().contiguous())
        self._steps = self._compile()

    def _compile(self) -> tuple[tuple[Callable[..., Tensor], tuple[int, ...], dict[str, Any], tuple[int, ...]], ...]:
        """Per node: its function, places of its arguments, keywords, places not needed afterwards.

        Places count the constants first, then the input, then the nodes.
        """
        names = [*self._slots, self.input, *(node.name for node in self.nodes)]
        place = {name: i for i, name in enumerate(names)}
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs if name not in self._slots}
        last.pop(self.output, None)
        dying: list[list[int]] = [[] for _ in self.nodes]
        for name, i in last.items():
            dying[i].append(place[name])
        return tuple(
            (OPS[node.op].run, tuple(place[i] for i in node.inputs), dict(node.attrs), tuple(gone))
            for node, gone in zip(self.nodes, dying, strict=True)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_steps"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._steps = self._compile()

    def keep_origin(self, graph: "Graph | None") -> None:
        """Remember the graph that this one was simplified from; its constants do not become this one's."""
        self.__dict__["origin"] = graph

    def constant(self, name: str) -> Tensor:
        """The constant of that name."""
        return getattr(self, self._slots[name])

    def slot(self, name: str) -> str:
        """The constant's name among the buffers, as in `state_dict()`."""
        return self._slots[name]

    def is_constant(self, name: str) -> bool:
        """Whether `name` is a constant (else it is the input or a node's value)."""
        return name in self._slots

    @property
    def constants(self) -> dict[str, Tensor]:
        """All constants by name, on the graph's device and in its float type."""
        return {name: getattr(self, slot) for name, slot in self._slots.items()}

    @property
    def dtype(self) -> torch.dtype:
        """The float type in which the graph computes, that of its constants."""
        return next((c.dtype for c in self.buffers() if c.is_floating_point()), self._bare)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Graph":
        """What `.to` and `.double()` do to every tensor; a graph without constants changes its type too."""
        self._bare = fn(torch.empty(0, dtype=self._bare)).dtype
        return super()._apply(fn, recurse)

    def with_constants(self, constants: Mapping[str, Tensor]) -> "Graph":
        """The same nodes with other constants by name, used as they are: on the autograd tape if they are on it."""
        twin = copy.copy(self)
        twin.keep_origin(None)
        twin._buffers = {slot: constants[name] for name, slot in self._slots.items()}
        return twin

    def step(self, node: Node, values: Mapping[str, Tensor]) -> Tensor:
        """Compute one node from the values of the earlier ones."""
        args = [self.constant(i) if i in self._slots else values[i] for i in node.inputs]
        return OPS[node.op].run(*args, **node.attrs)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, *output_shape] of a batch x [B, *input_shape]."""
        values: list[Any] = [*self._buffers.values(), x]
        for run, places, attrs, dying in self._steps:
            values.append(run(*[values[i] for i in places], **attrs))
            for i in dying:
                values[i] = None
        return values[-1]

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """Every node's value (and the input's) for a batch x [B, *input_shape]."""
        values = {self.input: x}
        for node in self.nodes:
            values[node.name] = self.step(node, values)
        return values

    def walk(self) -> Iterator[Node]:
        """The nodes in execution order."""
        return iter(self.nodes)

    def digest(self) -> str:
        """A hash of structure and weights: equal for equal networks, whatever file they came from."""
        h = hashlib.sha256(repr((self.input_shape, self.output_shape)).encode())
        for node, (_, places, _, _) in zip(self.nodes, self._steps, strict=True):
            h.update(repr((node.op, places, sorted(node.attrs.items()))).encode())
        for value in self.constants.values():
            h.update(repr((tuple(value.shape), str(value.dtype))).encode())
            h.update(value.detach().cpu().contiguous().numpy().tobytes())
        return h.hexdigest()[:16]


def _needed(nodes: list[Node], output: str) -> tuple[Node, ...]:
    """The nodes that the output depends on, in order, the output's own node last."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
