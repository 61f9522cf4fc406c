"""The norm of a convolution as the layer it is, with its stride, padding and input size: certified, without its matrix.

A convolution with zero padding of an image is part of a circular one on a larger torus, from which zeros keep the
edges apart, so its norm is at most that of the circular one, which falls into one small matrix a frequency (Sedghi,
Gupta and Long 2019, arXiv:1805.10408). A stride makes channels of the places that it skips.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from withstand.graph.ir import Node
from withstand.lipschitz.spectral import spectral

CHUNK = 2**22
"""Complex numbers of the matrices that are bounded together."""


def symbol_norm(node: Node, weight: Tensor, shapes: Mapping[str, torch.Size]) -> float:
    """An upper bound of the l2 norm of a `conv` or `conv_transpose` node with weight [out, in / groups, *kernel] (of a
    transposed one [in, out / groups, *kernel]) between values of these shapes."""
    transposed = node.op == "conv_transpose"
    sites = shapes[node.inputs[0]] if transposed else shapes[node.name]
    attrs = node.attrs
    weight = weight.double().unflatten(0, (attrs.get("groups", 1), -1))
    blocks = symbols(weight, sites[1:], attrs["stride"], attrs["dilation"])
    return max(float(spectral(block).max()) for block in blocks)


def symbols(weight: Tensor, sites: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Iterator[Tensor]:
    """The matrices [J, groups, out, in * phases] of all frequencies of weight [groups, out, in, *kernel] on a torus
    with room for `sites` windows, some at a time. Frequencies come in conjugate pairs, of which one is enough. The
    largest of their norms is that of the circular convolution; differentiable in the weight."""
    kernel = weight.shape[3:]
    taps = torch.tensor(list(product(*map(range, kernel))), dtype=torch.long) * torch.tensor(dilation)
    steps = torch.tensor(stride)
    place, phase = taps // steps, taps % steps
    torus = [n + int(place[:, axis].max()) for axis, n in enumerate(sites)]
    flat = weight.flatten(3).to(weight.dtype.to_complex())
    groups, out, channels, _ = flat.shape
    half = [*torus[:-1], torus[-1] // 2 + 1]
    waves = torch.tensor(list(product(*map(range, half))), dtype=torch.float64) * (2 * math.pi)
    angle = (waves / torch.tensor(torus, dtype=torch.float64)) @ place.T.double()
    turn = torch.polar(torch.ones_like(angle), angle).to(flat)
    phases = phase.unique(dim=0)
    for part in turn.split(max(1, CHUNK // (groups * out * channels * len(phases)))):
        found = []
        for offset in phases:
            held = (phase == offset).all(1)
            found.append(torch.einsum("jt,goct->jgoc", part[:, held], flat[..., held.to(flat.device)]))
        yield torch.cat(found, 3)
