"""NNet files, the text form of the ACAS Xu networks (Katz et al. 2017, arXiv:1702.01135; github.com/sisl/NNet)."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.graph.ir import Graph, Node

if TYPE_CHECKING:
    from withstand.graph.model import Model


@dataclass(frozen=True)
class NNet:
    """The numbers of a file, in float64.

    low, high [n]: inputs are clipped between them. mean, spread [n + 1]: a clipped input x_i enters as
    (x_i - mean_i) / spread_i, and the outputs y leave as y * spread_n + mean_n. layers: weights [out, in] and biases
    [out], with ReLU in between.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    spread: Tensor
    layers: list[tuple[Tensor, Tensor]]


def read_nnet(path: str | Path) -> "Model":
    """The network of an NNet file, from inputs in their natural units to outputs in theirs.

    Clipping and both normalisations are inside, as in the form's reference implementation. Clipping is written as
    x' = low + relu(x - low) - relu(x - high), which is exact, so that the network is affine maps and ReLU throughout;
    over a box within the clipping limits those ReLU are stable and cost nothing.

    Raises InputError with the line for text that is no number, and where numbers are missing, left over or unusable.
    """
    from withstand.graph.model import Model

    path = Path(path)
    graph = graph_of(parse_nnet(path))
    return Model(path.stem, graph, graph, graph.input_shape, graph.output_shape)


def parse_nnet(path: Path) -> NNet:
    """The numbers of a file. Raises InputError as `read_nnet` does."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The network {str(path)!r} cannot be read ({error}); check the path.") from None
    numbers: list[float] = []
    for place, line in enumerate(lines, 1):
        for word in filter(None, (word.strip() for word in line.partition("//")[0].split(","))):
            try:
                numbers.append(float(word))
            except ValueError:
                raise InputError(f"{path}, line {place}: {word[:40]!r} is no number; give an NNet file.") from None
            if not math.isfinite(numbers[-1]):
                raise InputError(f"{path}, line {place}: {word!r} is not finite, so the network computes nothing.")
    return _Numbers(path, torch.tensor(numbers, dtype=torch.float64)).nnet()


class _Numbers:
    """A file's numbers, taken in turn."""

    def __init__(self, path: Path, values: Tensor) -> None:
        self.path, self.values, self.place = path, values, 0

    def take(self, count: int, what: str) -> Tensor:
        taken = self.values[self.place : self.place + count]
        if len(taken) < count:
            raise InputError(f"{self.path} ends within its {what}; give the whole NNet file.")
        self.place += count
        return taken

    def sizes(self, count: int, what: str) -> list[int]:
        taken = self.take(count, what).tolist()
        if any(size != int(size) or not 0 < size < 1e6 for size in taken):
            raise InputError(f"{self.path} holds {what} that are no positive whole numbers; give an NNet file.")
        return [int(size) for size in taken]

    def nnet(self) -> NNet:
        depth, inputs, outputs, _ = self.sizes(4, "numbers of layers and neurons")
        sizes = self.sizes(depth + 1, "layer sizes")
        if (sizes[0], sizes[-1]) != (inputs, outputs):
            raise InputError(
                f"{self.path} states {inputs} inputs and {outputs} outputs, but layers from {sizes[0]} to {sizes[-1]}."
            )
        self.take(1, "header")
        low, high = self.take(inputs, "input minima"), self.take(inputs, "input maxima")
        mean, spread = self.take(inputs + 1, "means"), self.take(inputs + 1, "ranges")
        if bool((low > high).any()) or bool((spread == 0).any()):
            raise InputError(f"{self.path} holds an input minimum above its maximum, or a range of zero; correct it.")
        layers = []
        for number, (before, after) in enumerate(pairwise(sizes), 1):
            weight = self.take(before * after, f"weights of layer {number}").reshape(after, before)
            layers.append((weight, self.take(after, f"biases of layer {number}")))
        if self.place != len(self.values):
            raise InputError(f"{self.path} holds {len(self.values) - self.place} numbers too many; give an NNet file.")
        return NNet(low, high, mean, spread, layers)


def graph_of(net: NNet) -> Graph:
    """Affine maps with ReLU in between: clipping, then the layers, both normalisations merged into the outer ones."""
    count = len(net.low)
    eye = torch.eye(count, dtype=torch.float64)
    maps = [(torch.cat([eye, eye]), -torch.cat([net.low, net.high])), *net.layers]
    first, bias = maps[1]
    scaled = first / net.spread[:-1]
    maps[1] = (torch.cat([scaled, -scaled], 1), bias + scaled @ (net.low - net.mean[:-1]))
    last, bias = maps[-1]
    maps[-1] = (last * net.spread[-1], bias * net.spread[-1] + net.mean[-1])
    nodes, constants, value = [], {}, "x"
    for i, (weight, bias) in enumerate(maps):
        constants |= {f"w{i}": weight.float(), f"b{i}": bias.float()}
        nodes.append(Node(f"z{i}", "linear", (value, f"w{i}", f"b{i}")))
        value = f"z{i}"
        if i < len(maps) - 1:
            nodes.append(Node(f"a{i}", "relu", (value,)))
            value = f"a{i}"
    return Graph(
        nodes, constants, input="x", output=value, input_shape=(count,), output_shape=(len(net.layers[-1][1]),)
    )
