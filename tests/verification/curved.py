"""Small float64 networks of smooth functions, products and one block of self-attention."""

from itertools import pairwise
from typing import Any

from torch import Tensor
from varied import made, normal

from withstand.graph.ir import Graph, Node

FUNCTIONS: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "tanh": {},
    "softplus": {},
    "gelu": {},
    "sin": {},
    "clip": {"low": -0.5, "high": 0.5},
    "abs": {},
    "leaky_relu": {"slope": 0.1},
}


def curved(op: str, sizes: list[int], seed: int) -> Graph:
    """A network of these layer sizes with the element-wise function `op` of `FUNCTIONS` in between."""
    draw, nodes, constants, last = normal(seed), [], {}, "x"
    for i, (a, b) in enumerate(pairwise(sizes)):
        constants |= {f"w{i}": 1.5 * draw(b, a) / a**0.5, f"b{i}": draw(b) / 3}
        nodes.append(Node(f"z{i}", "linear", (last, f"w{i}", f"b{i}")))
        last = f"z{i}"
        if i < len(sizes) - 2:
            nodes.append(Node(f"a{i}", op, (last,), FUNCTIONS[op]))
            last = f"a{i}"
    return made(nodes, constants, (sizes[0],), sizes[-1])


def multiplied(seed: int) -> Graph:
    """A tanh times an affine map, the square of a mix of these products, and the greater of that and another product:
    2 inputs, 1 output."""
    draw = normal(seed)
    constants = {"w": draw(3, 2), "b": draw(3), "v": draw(3, 2), "u": draw(3, 3) / 2, "c": draw(3), "o": draw(1, 3)}
    nodes = [
        Node("z", "linear", ("x", "w", "b")),
        Node("t", "tanh", ("z",)),
        Node("l", "linear", ("x", "v")),
        Node("p", "mul", ("t", "l")),
        Node("q", "linear", ("p", "u")),
        Node("s", "mul", ("q", "q")),
        Node("r", "add", ("p", "c")),
        Node("m", "max", ("s", "r")),
        Node("y", "linear", ("m", "o")),
    ]
    return made(nodes, constants, (2,), 1)


def mixed(seed: int) -> Graph:
    """ReLU of some neurons and ELU of others side by side, the logarithm of their softmax, its tanh, and ReLU of a mix
    of that: 2 inputs, 1 output."""
    draw = normal(seed)
    constants = {"w": draw(4, 2), "b": draw(4), "v": draw(3, 4), "o": draw(1, 7)}
    nodes = [
        Node("z", "linear", ("x", "w", "b")),
        Node("first", "slice", ("z",), {"dim": 1, "start": 0, "stop": 2}),
        Node("rest", "slice", ("z",), {"dim": 1, "start": 2, "stop": 4}),
        Node("r", "relu", ("first",)),
        Node("e", "elu", ("rest",), {"alpha": 1.5}),
        Node("c", "concat", ("r", "e"), {"dim": 1}),
        Node("l", "log_softmax", ("c",), {"dim": 1}),
        Node("t", "tanh", ("l",)),
        Node("m", "linear", ("t", "v")),
        Node("q", "relu", ("m",)),
        Node("all", "concat", ("t", "q"), {"dim": 1}),
        Node("y", "linear", ("all", "o")),
    ]
    return made(nodes, constants, (2,), 1)


def attention(seed: int, words: int = 3, width: int = 2) -> Graph:
    """One head of self-attention over words [words, width], with ReLU behind it: words * width inputs, 2 outputs."""
    draw = normal(seed)
    constants: dict[str, Tensor] = {name: draw(width, width) for name in ("wq", "wk", "wv")}
    constants |= {"w": draw(4, words * width) / 2, "b": draw(4) / 3, "o": draw(2, 4) / 2}
    nodes = [
        Node("x2", "reshape", ("x",), {"shape": (words, width)}),
        Node("q", "matmul", ("x2", "wq")),
        Node("k", "matmul", ("x2", "wk")),
        Node("v", "matmul", ("x2", "wv")),
        Node("kt", "transpose", ("k",), {"perm": (0, 2, 1)}),
        Node("s", "matmul", ("q", "kt")),
        Node("p", "softmax", ("s",), {"dim": 2}),
        Node("h", "matmul", ("p", "v")),
        Node("f", "reshape", ("h",), {"shape": (words * width,)}),
        Node("z", "linear", ("f", "w", "b")),
        Node("a", "relu", ("z",)),
        Node("y", "linear", ("a", "o")),
    ]
    return made(nodes, constants, (words * width,), 2)
