"""Random graphs of most operators, with branches that meet again in sums, products, maxima and quotients."""

import random
from math import prod

import torch
from nets import graph

from withstand.bounds.rule import Elementwise, rules
from withstand.graph.ir import Graph, Node

STEPS = {"sign", "floor", "round"}
"""Functions with jumps, at which rounding alone changes values."""

SMOOTH = sorted(op for op, rule in rules().items() if isinstance(rule, Elementwise) and op not in STEPS)


class _Maker:
    """A graph while it grows: values by name and size, the latest last."""

    def __init__(self, seed: int) -> None:
        self.draw, self.made = random.Random(seed), torch.Generator().manual_seed(seed)
        self.dtype = self.draw.choice([torch.float64, torch.float64, torch.float32])
        self.inputs = self.draw.randint(1, 5)
        self.nodes: list[Node] = []
        self.constants = {"third": torch.tensor(0.3, dtype=self.dtype)}
        self.values = [("x", self.inputs)]

    def number(self, *shape: int, scale: float = 1.0) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = torch.randn(shape, generator=self.made, dtype=self.dtype) * scale
        return name

    def add(self, op: str, *inputs: str, **attrs: object) -> str:
        self.nodes.append(Node(f"n{len(self.nodes)}", op, inputs, attrs))
        return self.nodes[-1].name

    def linear(self, value: str, size: int) -> None:
        wide, scale = self.draw.randint(1, 8), self.draw.choice([0.5, 1, 2])
        weight, bias = self.number(wide, size, scale=scale / size**0.5), self.number(wide)
        self.values.append((self.add("linear", value, weight, bias), wide))

    def elementwise(self, value: str, size: int) -> None:
        op = self.draw.choice(SMOOTH)
        choices: dict[str, list[dict[str, object]]] = {
            "leaky_relu": [{"slope": slope} for slope in (0.0, 0.1, 0.5)],
            "elu": [{"alpha": alpha} for alpha in (0.5, 1.0, 2.0)],
            "clip": [{"low": 0.0, "high": 6.0}, {"low": -0.2, "high": 0.3}],
            "gelu": [{"approximate": kind} for kind in ("none", "tanh")],
            "pow": [{"exponent": exponent} for exponent in (2.0, 3.0, 4.0, 1.5, -1.0, 0.5)],
        }
        attrs = self.draw.choice(choices.get(op, [{}]))
        if op in ("log", "sqrt", "reciprocal") or attrs.get("exponent") in (1.5, -1.0, 0.5):
            value = self.add("add", self.add("softplus", value), "third")
        self.values.append((self.add(op, value, **attrs), size))

    def join(self, value: str, size: int) -> None:
        other = self.draw.choice([name for name, width in self.values if width == size])
        op = self.draw.choice(["add", "sub", "mul", "mul", "max", "min", "div"])
        other = self.add("exp", self.add("tanh", other)) if op == "div" else other
        self.values.append((self.add(op, value, other), size))

    def softmax(self, value: str, size: int) -> None:
        self.values.append((self.add(self.draw.choice(["softmax", "log_softmax"]), value, dim=1), size))

    def gram(self, value: str, size: int) -> None:
        rows = self.draw.choice([n for n in range(1, size + 1) if size % n == 0])
        matrix = self.add("reshape", value, shape=(rows, size // rows))
        square = self.add("matmul", matrix, self.add("transpose", matrix, perm=(0, 2, 1)))
        self.values.append((self.add("reshape", square, shape=(rows * rows,)), rows * rows))

    def window(self, value: str, size: int) -> None:
        if size < 2:
            return
        row = self.add("reshape", value, shape=(1, 1, size))
        wide = min(size, self.draw.choice([2, 3]))
        where: dict[str, object] = {"stride": (1, self.draw.choice([1, 2])), "padding": (0, self.draw.choice([0, 1]))}
        op = self.draw.choice(["max_pool", "avg_pool", "conv"])
        if op == "conv":
            image = self.add(op, row, self.number(2, 1, 1, wide), self.number(2), dilation=(1, 1), **where)
        else:
            image = self.add(op, row, kernel=(1, wide), **where, **({"dilation": (1, 1)} if op == "max_pool" else {}))
        count = prod(graph(list(self.nodes), dict(self.constants), (self.inputs,)).output_shape)
        self.values.append((self.add("reshape", image, shape=(count,)), count))


def random_graph(seed: int) -> Graph:
    """A graph of two outputs, float32 or float64, without jumps."""
    maker = _Maker(seed)
    kinds = [maker.linear] * 3 + [maker.elementwise] * 5 + [maker.join] * 3
    kinds += [maker.softmax, maker.gram, maker.window]
    maker.linear("x", maker.inputs)
    for _ in range(maker.draw.randint(2, 9)):
        maker.draw.choice(kinds)(*maker.draw.choice(maker.values[-3:]))
    value, size = maker.values[-1]
    maker.add("linear", value, maker.number(2, size))
    return graph(maker.nodes, maker.constants, (maker.inputs,))
