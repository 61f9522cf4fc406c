"""Small networks, and their constants by brute force."""

from itertools import pairwise, product

import torch
from torch import Tensor

from withstand.graph.ir import Graph, Node
from withstand.lipschitz.certified import Certified
from withstand.lipschitz.chain import Chain


def network(weights: list[Tensor], activation: str = "relu", **attrs: float) -> Graph:
    """Linear layers without biases but small ones, an activation between them."""
    nodes, constants, last = [], {}, "x"
    for i, weight in enumerate(weights):
        constants |= {f"w{i}": weight, f"b{i}": torch.linspace(-0.3, 0.2, len(weight), dtype=weight.dtype)}
        nodes.append(Node(f"z{i}", "linear", (last, f"w{i}", f"b{i}")))
        last = f"z{i}"
        if i < len(weights) - 1:
            nodes.append(Node(f"a{i}", activation, (last,), attrs))
            last = f"a{i}"
    shapes = (weights[0].shape[1],), (len(weights[-1]),)
    return Graph(nodes, constants, input="x", output=last, input_shape=shapes[0], output_shape=shapes[1])


def random_weights(sizes: list[int], seed: int) -> list[Tensor]:
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(b, a, generator=made, dtype=torch.float64) / a**0.5 for a, b in pairwise(sizes)]


def chain_of(graph: Graph) -> Chain:
    found = Certified(graph).chain
    assert isinstance(found, Chain), found
    return found


def patterns(chain: Chain, p: float = 2) -> float:
    """The largest norm over all patterns of the extreme slopes: no input changes the output more, and this is what the
    bounds bound."""
    matrix = chain.matrices[0][None]
    for after, limits in zip(chain.matrices[1:], chain.slopes, strict=True):
        s = torch.tensor(list(product(limits, repeat=after.shape[1])), dtype=torch.float64)
        matrix = (after * s[:, None])[:, None] @ matrix[None]
        matrix = matrix.flatten(0, 1)
    return float(torch.linalg.matrix_norm(matrix, p).max())


def layerwise(left: Tensor, right: Tensor, limits: tuple[float, float]) -> float:
    """The largest norm of left diag(s) right over all corners s, one at a time."""
    corners = product(limits, repeat=left.shape[1])
    return max(float(torch.linalg.matrix_norm(left * torch.tensor(s, dtype=torch.float64) @ right, 2)) for s in corners)
