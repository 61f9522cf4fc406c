"""A module as attacks may look at it: in a chosen mode, its statistics untouched, its first layer's gradient cheap."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from withstand.graph.image_gradient import ImageConvolution, pays
from withstand.hardening.parts.lending import randomness
from withstand.hardening.state import AttackMode


@contextmanager
def watching(model: nn.Module, mode: AttackMode) -> Iterator[None]:
    """Within it, passes of the model leave no trace: every part's mode comes back as it was, and so do buffers (running
    statistics, power iterations) and random states. In `eval` mode dropout and batch normalisation are fixed; in
    `train` mode batch normalisation uses the batch's statistics. Gradients of parameters are not to be taken within.

    Works inside `torch.inference_mode` too, as validation loops of other libraries use it, as long as the inputs are
    made or cloned within.
    """
    parts = list(model.modules())
    modes = [part.training for part in parts]
    kept = [(part, name, buffer) for part in parts for name, buffer in part._buffers.items()]
    layers = [part for part in parts if isinstance(part, nn.Conv2d) and "forward" not in vars(part)]
    with torch.inference_mode(False), torch.enable_grad(), randomness(model):
        model.train(mode == "train")
        for part, name, buffer in kept:
            part._buffers[name] = None if buffer is None else buffer.clone()
        for layer in layers:
            layer.forward = _Constant(layer)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward
            for part, name, buffer in kept:
                part._buffers[name] = buffer
            for part, training in zip(parts, modes):
                part.training = training


def ordinary(x: Tensor) -> Tensor:
    """x itself, or where it was made in inference mode a clone that autograd can use."""
    if not x.is_inference():
        return x
    with torch.inference_mode(False):
        return x.clone()


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
