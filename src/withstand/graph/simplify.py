"""Rewrites of a graph that change its cost and tightness but not its function."""

import math
from collections import Counter
from collections.abc import Set

import torch
from torch import Tensor

from withstand.graph.ir import Graph, Node

WEIGHTED = ("linear", "conv", "conv_transpose")
NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


def simplified(graph: Graph) -> Graph:
    """`simplify`, with the given graph as the `origin` of the new one; constants that both have are shared."""
    made = simplify(graph)
    shared = {name: value for name, value in made.constants.items() if name in graph.constants}
    made.keep_origin(graph.with_constants({**graph.constants, **shared}))
    return made


def simplify(graph: Graph, free: Set[str] = frozenset()) -> Graph:
    """The same function with fewer nodes.

    Operations that change nothing are dropped, reshapes in a row are merged, constants added to or multiplied with
    the result of a linear map or convolution (a batch normalisation, for example) go into its weights, computed in
    float64, and what is computed twice is computed once. x * x (with numbers in between), x * x * x, x * sigmoid(x) and
    the error-function form of GELU become one node each, of which bounds know more than of a product of two unrelated
    values. free: constants that may change, so that no rewrite rests on their values; what becomes of them is computed
    in torch, which may trace it. The values of the others are looked at in numpy.
    """
    draft = _Draft(graph, free)
    for node in graph.nodes:
        draft.take(node)
    return Graph(
        list(draft.nodes.values()),
        draft.constants,
        input=graph.input,
        output=draft.alias.get(graph.output, graph.output),
        input_shape=graph.input_shape,
        output_shape=graph.output_shape,
        dtype=graph.dtype,
    )


class _Draft:
    """The new graph while it grows. `alias` names the value that stands for a dropped one."""

    def __init__(self, graph: Graph, free: Set[str]) -> None:
        self.free = free
        with torch.no_grad():
            traced = graph.trace(torch.zeros(1, *graph.input_shape, dtype=graph.dtype))
        self.shapes = {name: tuple(value.shape[1:]) for name, value in traced.items()}
        self.constants, self.dtype = graph.constants, graph.dtype
        self.nodes: dict[str, Node] = {}
        self.alias: dict[str, str] = {}
        self.made: dict[tuple[object, ...], str] = {}
        self.uses = Counter(name for node in graph.nodes for name in node.inputs)
        self.uses[graph.output] += 1

    def take(self, node: Node) -> None:
        """Add a node, or what it simplifies to."""
        node = Node(node.name, node.op, tuple(self.alias.get(i, i) for i in node.inputs), node.attrs)
        if self._changes_nothing(node):
            self.alias[node.name] = same = next(i for i in node.inputs if i not in self.constants)
            self.uses[same] += self.uses[node.name] - 1
            return
        twin = self.made.setdefault((node.op, node.inputs, repr(sorted(node.attrs.items()))), node.name)
        if twin != node.name:
            self.alias[node.name] = twin
            self.uses[twin] += self.uses[node.name]
            self.uses.subtract(node.inputs)
            return
        new = self._merged_reshape(node) or self._in_weights(node) or self._activation(node) or node
        self.nodes[node.name] = new

    def _changes_nothing(self, node: Node) -> bool:
        values = [i for i in node.inputs if i not in self.constants]
        if len(values) != 1 or self.shapes[values[0]] != self.shapes[node.name]:
            return False
        if node.op in ("reshape", "expand"):
            return True
        if node.op == "transpose":
            return tuple(node.attrs["perm"]) == tuple(range(len(node.attrs["perm"])))
        if node.op in NEUTRAL and len(node.inputs) == 2:
            constant = self._constant_of(node)
            first = node.op in ("sub", "div") and node.inputs[0] not in values
            if constant is None or first or not self.free.isdisjoint(node.inputs):
                return False
            return bool((constant.numpy() == NEUTRAL[node.op]).all())
        return False

    def _constant_of(self, node: Node) -> Tensor | None:
        """The constant of an operation between a value and a constant."""
        return next((self.constants[i] for i in node.inputs if i in self.constants), None)

    def _merged_reshape(self, node: Node) -> Node | None:
        before = self.nodes.get(node.inputs[0])
        if node.op != "reshape" or before is None or before.op != "reshape":
            return None
        return Node(node.name, "reshape", before.inputs, node.attrs)

    def _in_weights(self, node: Node) -> Node | None:
        """A constant per channel that goes into the weights of the node before."""
        first, last = self.nodes.get(node.inputs[0]), self.nodes.get(node.inputs[-1])
        before = first if first is not None or node.op in ("sub", "div") else last
        constant = self._constant_of(node)
        if node.op not in NEUTRAL or constant is None or before is None or before.op not in WEIGHTED:
            return None
        if self.uses[before.name] != 1 or before.inputs[0] in self.constants:
            return None
        channels = self._per_channel(before, constant)
        return None if channels is None else self._absorbed(node, before, channels.double())

    def _per_channel(self, before: Node, constant: Tensor) -> Tensor | None:
        """The constant as one number a channel of that node's result, if it is that."""
        shape = self.shapes[before.name]
        axis = len(shape) - 1 if before.op == "linear" else 0
        if not constant.is_floating_point() or constant.dim() > len(shape):
            return None
        sizes = (1,) * (len(shape) - constant.dim()) + tuple(constant.shape)
        if any(size != 1 for i, size in enumerate(sizes) if i != axis) or sizes[axis] not in (1, shape[axis]):
            return None
        return constant.reshape(-1).expand(shape[axis])

    def _absorbed(self, node: Node, before: Node, channels: Tensor) -> Node | None:
        source, weight_name, *rest = before.inputs
        weight = self.constants.get(weight_name)
        bias = self.constants.get(rest[0]) if rest else torch.zeros(len(channels))
        if weight is None or bias is None or (before.op == "conv_transpose" and before.attrs.get("groups", 1) > 1):
            return None
        wide, offset = weight.double(), bias.double()
        if node.op in ("add", "sub"):
            offset = offset + channels if node.op == "add" else offset - channels
        else:
            factor = channels if node.op == "mul" else 1 / channels
            axis = 1 if before.op == "conv_transpose" else 0
            wide = wide * factor.reshape(*(-1 if i == axis else 1 for i in range(wide.dim())))
            offset = offset * factor
            weight_name = self._store(f"{node.name}:weight", wide.to(weight.dtype))
        bias_name = self._store(f"{node.name}:bias", offset.to(weight.dtype))
        return Node(node.name, before.op, (source, weight_name, bias_name), before.attrs)

    def _store(self, name: str, value: Tensor) -> str:
        self.constants[name] = value
        return name

    def _activation(self, node: Node) -> Node | None:
        """A product that is a power, SiLU or GELU of one value."""
        if node.op != "mul":
            return None
        scale, factors = self._factors(node)
        if len(factors) != 2:
            return None
        if factors[0] == factors[1] and self.shapes[factors[0]] == self.shapes[node.name]:
            return self._square(node, factors[0], scale)
        for x, other in (factors, factors[::-1]):
            made = self.nodes.get(other)
            if made is None:
                continue
            if made.op == "pow" and made.inputs == (x,) and scale == 1.0 and made.attrs["exponent"] in (2.0, 3.0):
                return Node(node.name, "pow", (x,), {"exponent": made.attrs["exponent"] + 1.0})
            if made.op == "sigmoid" and made.inputs == (x,) and scale == 1.0:
                return Node(node.name, "silu", (x,))
            if made.op == "add" and scale == 0.5 and self._is_one_plus_erf(made, x):
                return Node(node.name, "gelu", (x,), {"approximate": "none"})
        return None

    def _square(self, node: Node, x: str, scale: float) -> Node:
        if scale == 1.0:
            return Node(node.name, "pow", (x,), {"exponent": 2.0})
        square = Node(f"{node.name}:square", "pow", (x,), {"exponent": 2.0})
        self.nodes[square.name], self.shapes[square.name] = square, self.shapes[node.name]
        number = self._store(f"{node.name}:scale", torch.tensor(scale, dtype=self.dtype))
        return Node(node.name, "mul", (square.name, number))

    def _factors(self, node: Node) -> tuple[float, list[str]]:
        """A product as a number times values."""
        scale, factors = 1.0, []
        for name in node.inputs:
            made = self.nodes.get(name)
            number = self._number(name)
            if number is not None:
                scale *= number
            elif made is not None and made.op == "neg":
                scale, factors = -scale, [*factors, *made.inputs]
            elif made is not None and made.op == "mul" and self._scaled(node, made):
                inner, values = self._factors(made)
                scale, factors = scale * inner, factors + values
            else:
                factors.append(name)
        return scale, factors

    def _number(self, name: str) -> float | None:
        constant = self.constants.get(name)
        if constant is None or constant.numel() != 1 or name in self.free:
            return None
        return float(constant.numpy().item())

    def _scaled(self, *products: Node) -> bool:
        return any(self._number(i) is not None for product in products for i in product.inputs)

    def _is_one_plus_erf(self, made: Node, x: str) -> bool:
        erf = next((self.nodes[i] for i in made.inputs if i in self.nodes and self.nodes[i].op == "erf"), None)
        if erf is None or not any(self._number(i) == 1.0 for i in made.inputs):
            return False
        inner = self.nodes.get(erf.inputs[0])
        if inner is None or inner.op not in ("mul", "div") or x not in inner.inputs:
            return False
        number = next((n for i in inner.inputs if (n := self._number(i)) is not None), 0.0)
        wanted = math.sqrt(2) if inner.op == "div" else 1 / math.sqrt(2)
        return math.isclose(number, wanted, rel_tol=8 * torch.finfo(self.dtype).eps)
