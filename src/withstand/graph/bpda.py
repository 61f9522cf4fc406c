"""Layers without a useful gradient, passed backward through a smooth stand-in."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError

Layer = Callable[[Tensor], Tensor]


def bpda(layer: Layer, backward: Layer | None = None) -> "Bpda":
    """A layer as it is on the way forward, and `backward` in its place for gradients (the identity unless given).

    Backward pass differentiable approximation (Athalye et al. 2018, arXiv:1802.00420), for layers that round, sort or
    decide: attacks see through them. What is proved is proved of the layer itself; gradients play no part in a proof.
    """
    return Bpda(layer, backward)


class Bpda(nn.Module):
    """See `bpda`."""

    def __init__(self, layer: Layer, backward: Layer | None = None) -> None:
        super().__init__()
        self.layer, self.backward_layer = layer, backward

    def forward(self, x: Tensor) -> Tensor:
        """The layer's outputs."""
        if torch.compiler.is_exporting() or not (torch.is_grad_enabled() and x.requires_grad):
            return self.layer(x)
        with torch.no_grad():
            exact = self.layer(x)
        smooth = x if self.backward_layer is None else self.backward_layer(x)
        if smooth.shape != exact.shape:
            raise InputError(
                f"A layer wrapped by bpda makes {_by(exact)} of {_by(x)}, its backward {_by(smooth)}; "
                "give a backward that makes the same shape."
            )
        through = _Through.apply(exact, smooth)
        assert isinstance(through, Tensor)
        return through


class _Through(torch.autograd.Function):
    """The first argument forward, the gradient of the second backward."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]


def _by(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[1:])) or "a single number"
