"""A small network trained on the digits, as a module and as files."""

from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from withstand.builtin.digits import digits_split
from withstand.core.records import Plan

N = 60
THREAT = "linf:0.06"
PLAN = Plan(
    model="",
    data="",
    threat="",
    attacks=["noise:draws=5", "pgd:steps=10,step=0.25", "apgd:steps=10", "square:queries=30"],
    verifiers=["ibp", "crown"],
    curve=[0.5, 1.0, 2.0],
)
"""Every kind of stage, a few steps each."""


@dataclass(frozen=True)
class Lab:
    """The network, N held-out digits [N, 64] in [0, 1] with labels, and both as files."""

    module: nn.Sequential
    x: Tensor
    y: Tensor
    onnx: str
    npz: str


def train() -> nn.Sequential:
    """An MLP 64-24-10 with ReLU, trained for a few seconds."""
    torch.manual_seed(0)
    train, _ = digits_split()
    x, y = train.x.flatten(1), train.y
    net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    descent = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(150):
        descent.zero_grad()
        noise = (torch.rand_like(x) - 0.5) * 0.12
        nn.functional.cross_entropy(net((x + noise).clamp(0, 1)), y).backward()
        descent.step()
    return net.eval().requires_grad_(False)


def write_mlp(net: nn.Sequential, path: Path) -> None:
    """The MLP as an ONNX file, written without withstand."""
    nodes, tensors, value = [], [], "input"
    for i, layer in enumerate(net):
        out = "logits" if i == len(net) - 1 else f"v{i}"
        if isinstance(layer, nn.Linear):
            for name, weight in ((f"w{i}", layer.weight), (f"b{i}", layer.bias)):
                tensors.append(onnx.numpy_helper.from_array(weight.detach().numpy(), name))
            nodes.append(onnx.helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [out], transB=1))
        else:
            nodes.append(onnx.helper.make_node("Relu", [value], [out]))
        value = out
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])
        for name, size in (("input", 64), ("logits", 10))
    ]
    graph = onnx.helper.make_graph(nodes, "mlp", ends[:1], ends[1:], tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
