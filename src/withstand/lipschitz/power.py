"""The norm of an affine layer from below, by the power method and automatic differentiation."""

from collections.abc import Callable

import torch
from torch import Tensor

from withstand.core.shapes import flattened


def power(layer: Callable[[Tensor], Tensor], start: Tensor, steps: int = 100) -> Tensor:
    """The length of the layer's change for the best of the directions start [N, *shape] after some steps of the power
    method: a number, at most the layer's l2 norm up to rounding, and near it after enough steps.

    v <- the gradient of half the squared length of f(v) - f(0), which is A^T A v for f(x) = A x + b (Virmaux and Scaman
    2018, arXiv:1805.10965, algorithm 1). The layer is taken as it is, with stride, padding and input size. An estimate
    from below: never a certificate.
    """
    with torch.enable_grad():
        v = _unit(start.detach()).requires_grad_()
        at_zero = layer(torch.zeros_like(v)).detach()
        for _ in range(steps):
            half = (layer(v) - at_zero).square().sum() / 2
            v = _unit(torch.autograd.grad(half, v)[0]).requires_grad_()
        with torch.no_grad():
            change = flattened(layer(v) - at_zero).norm(dim=1)
            return (change / flattened(v).norm(dim=1).clamp(min=torch.finfo(v.dtype).tiny)).max()


def _unit(v: Tensor) -> Tensor:
    """Rows [N, *shape] of length 1; rows of zeros stay."""
    length = flattened(v).norm(dim=1).clamp(min=torch.finfo(v.dtype).tiny)
    return v / length.reshape(-1, *(1,) * (v.dim() - 1))
