"""Small float64 graphs of many operators: residual, convolution with max pooling, functions of straight pieces."""

from collections.abc import Callable

import torch
from torch import Tensor

from withstand.graph.ir import Graph, Node


def made(nodes: list[Node], constants: dict[str, Tensor], inputs: tuple[int, ...], outputs: int) -> Graph:
    """A graph that reads `x` and ends with its last node."""
    return Graph(nodes, constants, input="x", output=nodes[-1].name, input_shape=inputs, output_shape=(outputs,))


def normal(seed: int) -> Callable[..., Tensor]:
    """Random numbers by shape."""
    source = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=source, dtype=torch.float64)


def residual(seed: int = 0) -> Graph:
    """y = w3 relu(w2 (relu(w1 x) + v x)), 3 inputs."""
    draw = normal(seed)
    constants = {"w1": draw(4, 3), "b1": draw(4) / 3, "v": draw(4, 3), "w2": draw(3, 4) / 2, "w3": draw(2, 3)}
    nodes = [
        Node("z1", "linear", ("x", "w1", "b1")),
        Node("a1", "relu", ("z1",)),
        Node("s", "linear", ("x", "v")),
        Node("sum", "add", ("a1", "s")),
        Node("z2", "linear", ("sum", "w2")),
        Node("a2", "relu", ("z2",)),
        Node("y", "linear", ("a2", "w3")),
    ]
    return made(nodes, constants, (3,), 2)


def pooled(seed: int = 0) -> Graph:
    """A convolution of a 1 x 5 x 5 image, max pooling with overlap and padding, ReLU, two outputs."""
    draw = normal(seed)
    step = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}
    constants = {"k": draw(2, 1, 3, 3) / 2, "kb": draw(2) / 3, "w": draw(2, 8) / 2, "b": draw(2) / 3}
    nodes = [
        Node("c", "conv", ("x", "k", "kb"), step),
        Node("p", "max_pool", ("c",), pool),
        Node("r", "relu", ("p",)),
        Node("f", "reshape", ("r",), {"shape": (8,)}),
        Node("y", "linear", ("f", "w", "b")),
    ]
    return made(nodes, constants, (1, 5, 5), 2)


def kinked(seed: int = 0) -> Graph:
    """Leaky ReLU, then the larger of abs and clip, then the smaller of that and a constant."""
    draw = normal(seed)
    constants = {
        "w1": draw(3, 2),
        "b1": draw(3) / 3,
        "w2": draw(3, 3),
        "w3": draw(2, 3),
        "top": torch.tensor([1.0]).double(),
    }
    nodes = [
        Node("z1", "linear", ("x", "w1", "b1")),
        Node("l", "leaky_relu", ("z1",), {"slope": 0.1}),
        Node("z2", "linear", ("l", "w2")),
        Node("a", "abs", ("z2",)),
        Node("c", "clip", ("z2",), {"low": -0.5, "high": 0.75}),
        Node("m", "max", ("a", "c")),
        Node("n", "min", ("m", "top")),
        Node("y", "linear", ("n", "w3")),
    ]
    return made(nodes, constants, (2,), 2)


def smooth(seed: int = 0) -> Graph:
    """A product of a sigmoid and a tanh, and a softmax: what no program holds exactly."""
    draw = normal(seed)
    constants = {"w1": draw(3, 2), "w2": draw(3, 2), "w3": draw(2, 3)}
    nodes = [
        Node("z1", "linear", ("x", "w1")),
        Node("s", "sigmoid", ("z1",)),
        Node("z2", "linear", ("x", "w2")),
        Node("t", "tanh", ("z2",)),
        Node("p", "mul", ("s", "t")),
        Node("q", "softmax", ("p",), {"dim": 1}),
        Node("y", "linear", ("q", "w3")),
    ]
    return made(nodes, constants, (2,), 2)


VARIED = {"residual": residual, "pooled": pooled, "kinked": kinked, "smooth": smooth}
