"""Spectral normalisation: every layer divided by its norm."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from withstand.core.registry import Count, Positive
from withstand.hardening.objective import Addition, addition
from withstand.hardening.parts.spectral import Form, Norm, form, improved, layers, matrices, sigma, start


@addition
class SpectralNormalisation(Addition):
    """Give every layer's weight the same norm, W limit / sigma(W), in every pass (Miyato et al. 2018,
    arXiv:1802.05957).

    sigma is found by the power method from vectors that are kept with the layer, `steps` steps a pass in training mode
    (1, the authors'); gradients go through it. It comes from below, so norms exceed the limit by what the method lacks:
    what can be certified of the trained model, `withstand verify --method lipschitz` tells. norm: of a convolution,
    `matrix` takes its weights as a matrix [out, in * kernel] as the authors do, which the layer's own norm can exceed;
    `layer` takes the layer with its stride and dilation. limit: the norm that every layer gets (1, the authors').
    """

    norm: Norm = "matrix"
    limit: Positive = 1.0
    steps: Count = 1

    def prepare(self, module: nn.Module) -> None:
        for layer in layers(module).values():
            scaled = _Scaled(layer.weight, form(layer, self.norm), self.limit, self.steps)
            parametrize.register_parametrization(layer, "weight", scaled)

    def finish(self, module: nn.Module) -> None:
        for layer in layers(module).values():
            _part_from_copies(layer)
            with torch.no_grad():
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _part_from_copies(layer: nn.Module) -> None:
    """Give a layer with a parametrised weight a class of its own: a copy shares that of its original, from which taking
    away the parametrisation would take the weight."""
    shared = type(layer)
    held = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, held)  # type: ignore[assignment]


class _Scaled(nn.Module):
    """A layer's weight with its norm at the limit. v: the kept vectors, complex ones as pairs of real numbers."""

    v: Tensor

    def __init__(self, weight: Tensor, form: Form | None, limit: float, steps: int) -> None:
        super().__init__()
        self.form, self.limit, self.steps = form, limit, steps
        v = start(matrices(weight.detach(), form))
        self.register_buffer("v", torch.view_as_real(v) if v.is_complex() else v)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses; in training mode the vectors improve."""
        with torch.autocast(weight.device.type, enabled=False):
            parts = matrices(weight, self.form)
            v = torch.view_as_complex(self.v) if parts.is_complex() else self.v
            if self.training:
                v = improved(parts.detach(), v, self.steps)
                self.v = torch.view_as_real(v) if v.is_complex() else v
            return weight * (self.limit / sigma(parts, v))
