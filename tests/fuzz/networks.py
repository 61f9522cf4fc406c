"""Random small networks of all operators, whose samples, inner values and outputs have ranks 0 to 4.

They are built by what both readers of networks build with, so that broadcasting and moved axes take the way they take
for users. `straight` networks consist of straight pieces alone: their truth can be had exactly.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from withstand.graph.builder import Builder, Value
from withstand.graph.ir import Graph
from withstand.graph.lower import arith, moves, norms, pools, products
from withstand.graph.simplify import simplify

BENT: dict[str, list[dict[str, Any]]] = {
    "relu": [{}],
    "abs": [{}],
    "leaky_relu": [{"slope": slope} for slope in (0.0, 0.1, 0.5, 1.0)],
    "clip": [{"low": 0.0, "high": 6.0}, {"low": -0.2, "high": 0.3}, {"low": -0.5}, {"high": 0.1}, {"low": 0.0}],
}
"""Element-wise functions of straight pieces, with choices of their attributes."""

CURVED: dict[str, list[dict[str, Any]]] = {
    **{op: [{}] for op in ("sigmoid", "tanh", "exp", "sin", "cos", "erf", "silu", "softplus")},
    "elu": [{"alpha": 1.0}, {"alpha": 0.5}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "pow": [{"exponent": exponent} for exponent in (2.0, 3.0)],
}
"""Smooth ones that are defined everywhere."""

POSITIVE = ("log", "sqrt", "reciprocal")
"""Functions of positive numbers."""

WIDEST = 12
"""Elements of the largest inner value."""

SCALES = [1.0] * 30 + [0.0, 1e-3, 30.0, 1e3, 1e6, 1e-8]
"""Sizes of weights: mostly as in a trained network, sometimes none, huge or tiny."""


@dataclass(frozen=True)
class Made:
    """A network; straight: whether it has straight pieces alone; huge: whether it has weights that are not of order 1
    or functions that blow numbers up."""

    graph: Graph
    straight: bool
    huge: bool


class Maker:
    """A network while it grows: the values that may still be used, the latest last."""

    def __init__(self, seed: int, straight: bool) -> None:
        self.draw, self.normal = random.Random(seed), torch.Generator().manual_seed(seed)
        self.straight, self.huge, self.bends = straight, False, 0
        self.b = Builder("x", (1, *self.sizes(self.draw.randint(1, 4))), folded=False)
        self.values = [self.b.input]
        self.steps: list[Callable[[Value], Any]] = [
            *[self.linear] * 5,
            *[self.function] * 6,
            *[self.join] * 3,
            *[self.scale, self.shape, self.axes, self.total, self.row, self.piece, self.pick, self.room, self.spread],
            *[self.largest, self.convolution, self.pool, self.norm, self.choice],
        ]
        if not straight:
            self.steps += [self.curve] * 3 + [self.product, self.quotient, self.softmax, self.matmul, self.positive]

    def sizes(self, count: int) -> tuple[int, ...]:
        """A shape of `count` elements and a rank of 0 to 4 (0 where the count allows it)."""
        rank = self.draw.randint(0 if count == 1 else 1, 4)
        sizes = [1] * rank
        for factor in (2, 2, 3, 5, 7, 11):
            while count % factor == 0:
                sizes[self.draw.randrange(rank)] *= factor
                count //= factor
        return tuple(sizes)

    def number(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Random weights: now and then huge, tiny, zero, equal to each other, or whole numbers."""
        factor = self.draw.choice(SCALES)
        self.huge |= factor > 1
        made = torch.randn(shape, generator=self.normal) * scale * factor
        kind = self.draw.random()
        if kind < 0.08:
            made = made.round()
        elif kind < 0.14 and made.dim() > 1:
            made = made[:1].expand_as(made).clone()
        return made

    def add(self, value: Any) -> None:
        """Keep a value, if it is one and not too large."""
        if isinstance(value, Value) and 0 < prod(value.shape) <= WIDEST:
            self.values.append(value)

    def tried(self, step: Callable[[Value], Any]) -> None:
        """Take a step, if the value fits it; bends are counted, since exact truths cost twice as much for each."""
        value = self.draw.choice(self.values[-3:])
        if self.straight and self.bends > 9 and step in (self.function, self.join, self.largest, self.pool):
            step = self.linear
        before = len(self.values)
        self.add(step(value))
        if len(self.values) > before and step in (self.function, self.join, self.largest, self.pool):
            self.bends += prod(self.values[-1].shape)

    # ------------------------------------------------------------ affine maps

    def linear(self, x: Value) -> Any:
        if len(x.shape) < 2:
            return arith.binary(self.b, "add", arith.binary(self.b, "mul", x, self.number()), self.number(scale=0.5))
        wide = self.draw.randint(1, 4)
        bias = self.number(wide, scale=0.5) if self.draw.random() < 0.8 else None
        return products.linear(self.b, x, self.number(wide, x.shape[-1], scale=x.shape[-1] ** -0.5), bias)

    def scale(self, x: Value) -> Any:
        shape = [size if self.draw.random() < 0.5 else 1 for size in x.shape]
        other = self.number(*shape[self.draw.randint(0, len(shape)) :])
        op = self.draw.choice(["add", "sub", "mul", "div"])
        if op == "div":
            other = other.abs() + 0.1
        pair = (x, other) if op == "div" or self.draw.random() < 0.7 else (other, x)
        return arith.binary(self.b, op, *pair)

    def shape(self, x: Value) -> Any:
        return moves.reshape(self.b, x, (1, *self.sizes(prod(x.shape))))

    def axes(self, x: Value) -> Any:
        rest = list(range(1, len(x.shape)))
        self.draw.shuffle(rest)
        return moves.transpose(self.b, x, [0, *rest])

    def total(self, x: Value) -> Any:
        axes = [axis for axis in range(1, len(x.shape)) if self.draw.random() < 0.6]
        return pools.reduce(self.b, self.draw.choice(["sum", "mean"]), x, axes, self.draw.random() < 0.5)

    def row(self, x: Value) -> Any:
        if len(x.shape) < 2:
            other = self.draw.choice([v for v in self.values if len(v.shape) < 2])
            return moves.concat(self.b, [moves.unsqueeze(self.b, part, (1,)) for part in (x, other)], 1)
        parts: list[Any] = [x, self.draw.choice([v for v in self.values if v.shape == x.shape])]
        if self.draw.random() < 0.4:
            parts.append(self.number(*x.shape))
        self.draw.shuffle(parts)
        return moves.concat(self.b, parts, self.draw.randrange(1, len(x.shape)))

    def piece(self, x: Value) -> Any:
        if len(x.shape) < 2:
            return x
        axis = self.draw.randrange(1, len(x.shape))
        start = self.draw.randrange(x.shape[axis])
        return moves.slice_axis(self.b, x, axis, start, None, self.draw.randint(1, 2))

    def pick(self, x: Value) -> Any:
        if len(x.shape) < 2:
            return x
        axis = self.draw.randrange(1, len(x.shape))
        index = [self.draw.randrange(x.shape[axis]) for _ in range(self.draw.randint(1, 3))]
        single = self.draw.random() < 0.5
        return moves.take(self.b, x, torch.tensor(index[0] if single else index), axis)

    def room(self, x: Value) -> Any:
        pads = [(0, 0), *((self.draw.randint(0, 1), self.draw.randint(0, 1)) for _ in x.shape[1:])]
        return moves.pad(self.b, x, pads, value=self.draw.choice([0.0, 1.5]))

    def spread(self, x: Value) -> Any:
        shape = [1, *(self.draw.randint(1, 2) if size == 1 else size for size in x.shape[1:])]
        return moves.expand(self.b, x, shape)

    def norm(self, x: Value) -> Any:
        if len(x.shape) < 2:
            return x
        scale, bias, mean = (torch.randn(x.shape[1], generator=self.normal) for _ in range(3))
        return norms.batch_norm(self.b, x, scale, bias, mean, scale.abs() + 0.1, 1e-5)

    def image(self, x: Value) -> Value:
        """The value as one or more maps of one to three axes."""
        rank, count = self.draw.randint(1, 3), prod(x.shape)
        channels = self.draw.choice([1, 1, *(n for n in (2, 3) if count % n == 0)])
        sizes = [1] * rank
        sizes[self.draw.randrange(rank)] = count // channels
        made = moves.reshape(self.b, x, (1, channels, *sizes))
        assert isinstance(made, Value)
        return made

    def convolution(self, x: Value) -> Any:
        x = self.image(x)
        kernel = [min(size, self.draw.randint(1, 2)) for size in x.shape[2:]]
        common: dict[str, Any] = {"stride": [self.draw.randint(1, 2) for _ in kernel], "dilation": [1] * len(kernel)}
        pads = [both(self.draw.randint(0, 1)) if size > 1 else (0, 0) for size in kernel]
        wide, bias = self.draw.randint(1, 2), torch.randn(2, generator=self.normal)
        if self.draw.random() < 0.3:
            weight = self.number(x.shape[1], wide, *kernel, scale=0.7)
            common |= {"pads": [(0, 0)] * len(kernel), "extra": [0] * len(kernel)}
            return products.convolve_transposed(self.b, x, weight, bias[:wide], groups=1, **common)
        weight = self.number(wide, x.shape[1], *kernel, scale=0.7)
        return products.convolve(self.b, x, weight, bias[:wide], pads=pads, groups=1, **common)

    # ------------------------------------------------------------ straight pieces

    def function(self, x: Value) -> Any:
        op = self.draw.choice(["relu", *BENT])
        return arith.unary(self.b, op, x, **self.draw.choice(BENT[op]))

    def join(self, x: Value) -> Any:
        other = self.draw.choice(self.values)
        op = self.draw.choice(["add", "sub", "max", "min"])
        return arith.binary(self.b, op, x, other) if fits(x, other) else x

    def largest(self, x: Value) -> Any:
        if len(x.shape) < 2:
            return x
        axes = [self.draw.randrange(1, len(x.shape))]
        run = self.draw.choice([pools.reduce_max, pools.reduce_min])
        return run(self.b, x, axes, self.draw.random() < 0.5)

    def pool(self, x: Value) -> Any:
        x = self.image(x)
        kernel = [min(size, self.draw.randint(1, 3)) for size in x.shape[2:]]
        stride, pads = [self.draw.randint(1, 2) for _ in kernel], [both(int(self.draw.random() < 0.3))] * len(kernel)
        pads = [pad if size > 1 else (0, 0) for pad, size in zip(pads, kernel)]
        one, ceil = [1] * len(kernel), self.draw.random() < 0.3
        if self.draw.random() < 0.4:
            return pools.avg_pool(self.b, x, kernel, stride, pads, one, ceil, self.draw.random() < 0.5)
        return pools.max_pool(self.b, x, kernel, stride, pads, one, ceil)

    def choice(self, x: Value) -> Any:
        mask = torch.rand(x.shape, generator=self.normal) < 0.5
        return arith.where(self.b, mask, x, self.number(*x.shape[1:]))

    # ------------------------------------------------------------ curves

    def curve(self, x: Value) -> Any:
        op = self.draw.choice([*CURVED])
        self.huge |= op in ("exp", "pow")
        return arith.unary(self.b, op, x, **self.draw.choice(CURVED[op]))

    def above(self, x: Value) -> Any:
        """The value made positive."""
        return arith.binary(self.b, "add", arith.unary(self.b, "softplus", x), torch.tensor(0.2))

    def positive(self, x: Value) -> Any:
        return arith.unary(self.b, self.draw.choice(POSITIVE), self.above(x))

    def product(self, x: Value) -> Any:
        other = self.draw.choice(self.values)
        self.huge = True
        return arith.binary(self.b, "mul", x, other) if fits(x, other) else x

    def quotient(self, x: Value) -> Any:
        other = self.draw.choice(self.values)
        return arith.binary(self.b, "div", x, self.above(other)) if fits(x, other) else x

    def softmax(self, x: Value) -> Any:
        if len(x.shape) < 2:
            return x
        op = self.draw.choice(["softmax", "softmax", "log_softmax"])
        return pools.softmax(self.b, op, x, self.draw.randrange(1, len(x.shape)))

    def matmul(self, x: Value) -> Any:
        if len(x.shape) < 3:
            return x
        self.huge = True
        turned = moves.transpose(self.b, x, [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2])
        return products.matmul(self.b, x, turned)


def both(room: int) -> tuple[int, int]:
    """As much padding before as after."""
    return room, room


def fits(x: Value, y: Value) -> bool:
    """Whether two values of one sample broadcast, without meeting each other's batch."""
    pairs = zip(x.shape[:0:-1], y.shape[:0:-1])
    return all(a == b or 1 in (a, b) for a, b in pairs)


def random_network(seed: int) -> Made:
    """A network of one to four inputs; half of them have straight pieces alone, and half of them are simplified."""
    straight = seed % 2 == 0
    maker = Maker(seed, straight)
    for _ in range(maker.draw.randint(2, 9)):
        maker.tried(maker.draw.choice(maker.steps))
    last = maker.values[-1]
    if maker.draw.random() < 0.5:
        flat = moves.reshape(maker.b, last, (1, prod(last.shape)))
        assert isinstance(flat, Value)
        last = products.linear(maker.b, flat, maker.number(maker.draw.randint(1, 3), prod(last.shape)), None)
    if last is maker.b.input:
        last = arith.unary(maker.b, "neg", last)
        assert isinstance(last, Value)
    graph = maker.b.graph(last)
    return Made(simplify(graph) if maker.draw.random() < 0.7 else graph, straight, maker.huge)
