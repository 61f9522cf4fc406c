"""A graph as PyTorch layers whose weights learn."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from withstand.graph.ir import Graph, Node
from withstand.graph.ops import OPS

WEIGHTED = ("conv", "conv_transpose", "linear", "matmul")
"""Operations whose constants are weights."""

CONVOLUTIONS = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "conv_transpose": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
}


class Layers(nn.Module):
    """The function of a graph, with PyTorch's own layers for convolutions, linear maps and ReLU.

    Their weights learn, as do constant factors of matrix products and what is added to the result of one of these.
    Other constants stay: normalisation before the first layer, positions, masks and numbers in formulas. Nodes that
    share a weight go on sharing it. [B, *input_shape] to [B, *output_shape] of the graph.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.input, self.output = graph.input, graph.output
        self.plan: list[tuple[str, str, tuple[str, ...]]] = []
        """Name of a part, of the value it computes, and of the values it takes."""
        shared: dict[str, nn.Parameter] = {}
        ops = {node.name: node.op for node in graph.walk()}
        for number, node in enumerate(graph.walk()):
            name = f"{node.op}{number}"
            addend = node.op in ("add", "sub") and any(ops.get(i) in WEIGHTED for i in node.inputs)
            self.add_module(
                name, _layer(graph, node, shared) or _Apply(graph, node, shared, node.op in WEIGHTED or addend)
            )
            values = tuple(i for i in node.inputs if not graph.is_constant(i))
            self.plan.append((name, node.name, values))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, *output_shape] of a batch x [B, *input_shape]."""
        values = {self.input: x}
        for part, name, inputs in self.plan:
            values[name] = self.get_submodule(part)(*(values[i] for i in inputs))
        return values[self.output]


class _Apply(nn.Module):
    """One operation of a graph with its constants, which learn or stay."""

    def __init__(self, graph: Graph, node: Node, shared: dict[str, nn.Parameter], learns: bool) -> None:
        super().__init__()
        self.op, self.attrs = node.op, dict(node.attrs)
        self.places: list[str | None] = []
        """Names of the constants by place of an argument, None for values."""
        for place, name in enumerate(node.inputs):
            if not graph.is_constant(name):
                self.places.append(None)
                continue
            self.places.append(f"c{place}")
            value = graph.constant(name)
            if learns and value.is_floating_point():
                self.register_parameter(f"c{place}", _shared(shared, name, value))
            else:
                self.register_buffer(f"c{place}", value.clone())

    def forward(self, *values: Tensor) -> Tensor:
        """The operation on its values, batch first."""
        rest = iter(values)
        return OPS[self.op].run(*(next(rest) if c is None else getattr(self, c) for c in self.places), **self.attrs)

    def extra_repr(self) -> str:
        """The operation and its attributes."""
        return ", ".join([self.op, *(f"{name}={value}" for name, value in self.attrs.items())])


def _layer(graph: Graph, node: Node, shared: dict[str, nn.Parameter]) -> nn.Module | None:
    """PyTorch's layer for a node, or None where there is none."""
    if node.op == "relu":
        return nn.ReLU()
    constant = [graph.is_constant(name) for name in node.inputs]
    if node.op not in (*CONVOLUTIONS, "linear") or constant[0] or not all(constant[1:]):
        return None
    weight, bias = graph.constant(node.inputs[1]), len(node.inputs) == 3
    made: nn.Module
    if node.op == "linear":
        made = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias)
    else:
        attrs: Mapping[str, Any] = node.attrs
        groups = attrs.get("groups", 1)
        first, second = weight.shape[0], weight.shape[1] * groups
        into, out = (second, first) if node.op == "conv" else (first, second)
        form = CONVOLUTIONS[node.op][weight.dim() - 3]
        made = nn.utils.skip_init(form, into, out, tuple(weight.shape[2:]), bias=bias, **attrs)
    for place, name in zip(("weight", "bias"), node.inputs[1:]):
        made.register_parameter(place, _shared(shared, name, graph.constant(name)))
    return made


def _shared(shared: dict[str, nn.Parameter], name: str, value: Tensor) -> nn.Parameter:
    return shared.setdefault(name, nn.Parameter(value.detach().clone()))
