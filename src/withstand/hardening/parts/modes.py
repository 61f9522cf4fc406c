"""A module as attacks may look at it: in a chosen mode, its statistics untouched, its first layer's gradient cheap."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from withstand.graph.image_gradient import ImageConvolution, pays
from withstand.hardening.state import AttackMode


@contextmanager
def watching(model: nn.Module, mode: AttackMode) -> Iterator[None]:
    """Within it, passes of the model leave no trace: every part's mode comes back as it was, running statistics of
    batch normalisation stay, and so do random states. In `eval` mode dropout and batch normalisation are fixed; in
    `train` mode batch normalisation uses the batch's statistics. Gradients of parameters are not to be taken within.

    Works inside `torch.inference_mode` too, as validation loops of other libraries use it, as long as the inputs are
    made or cloned within.
    """
    parts = list(model.modules())
    modes = [part.training for part in parts]
    norms = [part for part in parts if isinstance(part, _BatchNorm)] if mode == "train" else []
    kept = [(part.running_mean, part.running_var, part.num_batches_tracked) for part in norms]
    layers = [part for part in parts if isinstance(part, nn.Conv2d) and "forward" not in vars(part)]
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[], enabled=mode == "train"):
        model.train(mode == "train")
        for part in norms:
            part.running_mean, part.running_var = _copy(part.running_mean), _copy(part.running_var)
            part.num_batches_tracked = _copy(part.num_batches_tracked)
        for layer in layers:
            layer.forward = _Constant(layer)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward
            for part, (mean, var, count) in zip(norms, kept):
                part.running_mean, part.running_var, part.num_batches_tracked = mean, var, count
            for part, training in zip(parts, modes):
                part.training = training


def _copy(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clone()


class _Constant:
    """A convolution's forward with its weights as constants, so that its gradient by images is cheap."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer, self.plain = layer, layer.forward

    def __call__(self, x: Tensor) -> Tensor:
        layer, padding = self.layer, self.layer.padding
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        if layer.padding_mode != "zeros" or isinstance(padding, str) or not pays(x, weight, bias, layer.groups):
            return self.plain(x)
        return ImageConvolution.apply(x, weight, bias, layer.stride, padding, layer.dilation)
