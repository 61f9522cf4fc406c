"""Norms of a module's layers from their live weights, with gradients, by the power method from kept vectors."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.lipschitz.convolution import symbols

Norm = Literal["matrix", "layer"]
"""Of a convolution: its weight as a matrix [out, in * kernel], or the layer that it is."""

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

SITES = 8
"""Places along each axis of the torus on which convolutions are measured as layers."""

FIRST = 15
"""Steps of the power method on fresh weights."""


def layers(module: nn.Module) -> dict[str, Layer]:
    """The fully connected layers and convolutions of a module, by name. Raises InputError where there are none."""
    found = {name: part for name, part in module.named_modules() if isinstance(part, Layer)}
    if not found:
        raise InputError("The model has neither a fully connected layer nor a convolution with a norm to limit.")
    return found


class Form(NamedTuple):
    """What makes a layer of a convolution's weight."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def form(layer: Layer, norm: Norm) -> Form | None:
    """The form of a convolution that is measured as a layer; None: the weight is measured as a matrix."""
    if norm == "matrix" or isinstance(layer, nn.Linear):
        return None
    return Form(layer.stride, layer.dilation, layer.groups)


def matrices(weight: Tensor, form: Form | None) -> Tensor:
    """Matrices [J, out, in] from a layer's weight, in its float type, whose largest norm is that of the layer.

    As a layer, a convolution is measured with its stride, dilation and groups on a torus with room for `SITES` windows
    along each axis (see `withstand.lipschitz.convolution`): no less than with zero padding on images of that size.
    """
    if form is None:
        return weight.flatten(1)[None]
    parts = weight.unflatten(0, (form.groups, -1))
    blocks = symbols(parts, (SITES,) * (weight.dim() - 2), form.stride, form.dilation)
    return torch.cat([block.flatten(0, 1) for block in blocks])


def start(parts: Tensor) -> Tensor:
    """Right vectors [J, in] near the leading ones of matrices [J, out, in]: the same for the same matrices."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(parts.shape[2], generator=generator, dtype=torch.float64).to(parts)
    return improved(parts.detach(), first.expand(len(parts), -1), FIRST)


def improved(parts: Tensor, v: Tensor, steps: int = 1) -> Tensor:
    """The vectors [J, in] after some steps of the power method, of length 1; matrices of zeros leave theirs alone."""
    for _ in range(steps):
        back = parts.mH @ (parts @ v[..., None])
        length = back.abs().square().sum(1, keepdim=True).sqrt()
        v = torch.where(length > 0, back / length.clamp(min=torch.finfo(length.dtype).tiny), v[..., None]).squeeze(2)
    return v


def sigma(parts: Tensor, v: Tensor) -> Tensor:
    """The largest length of matrices [J, out, in] times unit vectors [J, in]: a scalar, at most the largest norm, whose
    gradient by its matrix is u v^T, with u the direction of the product."""
    return (parts @ v[..., None]).abs().square().sum((1, 2)).max().clamp(min=1e-20).sqrt()
