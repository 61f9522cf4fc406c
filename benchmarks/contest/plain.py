"""The network as plain PyTorch layers, as users of the other packages have it."""

import operator

from torch import Tensor, nn

from withstand.graph.ir import Graph, Node


class Shift(nn.Module):
    """A constant added, taken off, multiplied or divided by: what stands before the first layer."""

    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__()
        self.run = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}[name]
        self.register_buffer("value", value)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, *shape], shifted."""
        return self.run(x, self.value)


def plain(graph: Graph) -> nn.Sequential:
    """The layers of a network without branches, each PyTorch's own."""
    return nn.Sequential(*(layer(graph, node) for node in graph.walk())).eval().requires_grad_(False)


def layer(graph: Graph, node: Node) -> nn.Module:
    """One node as PyTorch's layer with the node's weights. Raises KeyError for an operation no benchmark model has."""
    held = [graph.constant(name) for name in node.inputs if graph.is_constant(name)]
    if node.op == "relu":
        return nn.ReLU()
    if node.op == "reshape":
        return nn.Flatten()
    if node.op not in ("conv", "linear"):
        return Shift(node.op, *held)
    out, into = held[0].shape[:2]
    made: nn.Module
    if node.op == "linear":
        made = nn.Linear(into, out, bias=len(held) == 2)
    else:
        height, width = held[0].shape[2:]
        made = nn.Conv2d(into * node.attrs["groups"], out, (height, width), bias=len(held) == 2, **node.attrs)
    made.load_state_dict(dict(zip(("weight", "bias"), held, strict=False)))
    return made
