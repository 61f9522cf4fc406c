"""The norm of a convolution as the layer it is, with its stride, padding and input size: certified, without its matrix.

A convolution with zero padding of an image is part of a circular one on a larger torus, from which zeros keep the
edges apart, so its norm is at most that of the circular one, which falls into one small matrix a frequency (Sedghi,
Gupta and Long 2019, arXiv:1805.10408). A stride makes channels of the places that it skips.
"""

import math
from collections.abc import Iterator, Mapping
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
    blocks = _symbols(weight, sites[1:], attrs["stride"], attrs["dilation"])
    return max(float(spectral(block).max()) for block in blocks)


def _symbols(
    weight: Tensor, sites: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Iterator[Tensor]:
    """The matrices [J, groups, out, in * phases] of all frequencies of weight [groups, out, in, *kernel] on a torus
    with room for `sites` windows, some at a time. Frequencies come in conjugate pairs, of which one is enough."""
    kernel = weight.shape[3:]
    taps = torch.tensor(list(product(*map(range, kernel))), dtype=torch.long) * torch.tensor(dilation)
    steps = torch.tensor(stride)
    place, phase = taps // steps, taps % steps
    torus = [n + int(place[:, axis].max()) for axis, n in enumerate(sites)]
    flat = weight.flatten(3).to(torch.complex128)
    groups, out, channels, _ = flat.shape
    half = [*torus[:-1], torus[-1] // 2 + 1]
    waves = torch.tensor(list(product(*map(range, half))), dtype=torch.float64) * (2 * math.pi)
    waves = waves / torch.tensor(torus, dtype=torch.float64)
    phases = phase.unique(dim=0)
    size = groups * out * channels * len(phases)
    for part in waves.split(max(1, CHUNK // size)):
        turn = torch.polar(torch.ones(1, dtype=torch.float64), part @ place.T.double())
        found = flat.new_zeros(len(part), groups, out, channels, len(phases))
        for number, offset in enumerate(phases):
            held = (phase == offset).all(1)
            found[..., number] = torch.einsum("jt,goct->jgoc", turn[:, held], flat[..., held])
        yield found.flatten(3)
