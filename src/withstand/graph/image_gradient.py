"""The gradient of a first layer: convolutions of few channels, passed backward by one product and one fold.

The general kernel for gradients by the input takes 1.4 to 4 times as long on images of one to three channels
(`benchmarks/image_gradient.py`), and an attack asks for little else.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 3
TAPS = 8
"""Most channels, and most entries of a kernel for each channel out, where the product is faster (measured)."""


def pays(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> bool:
    """Whether `ImageConvolution` does a convolution of x [B, in, H, W] with weight [out, in, h, w], and faster."""
    learned = weight.requires_grad or (bias is not None and bias.requires_grad)
    if not x.requires_grad or learned or weight.dim() != 4 or groups != 1:
        return False
    return weight.shape[1] <= CHANNELS and weight[0].numel() <= TAPS * len(weight)


class ImageConvolution(torch.autograd.Function):
    """A 2-d convolution with constant weights whose gradient is a product and a fold."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        """As F.conv2d: x [B, in, H, W] to [B, out, h, w]."""
        ctx.save_for_backward(weight)
        ctx.shape, ctx.window = x.shape[2:], (dilation, padding, stride)
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient [B, in, H, W]: what every output passes to every entry of its window, added up."""
        (weight,) = ctx.saved_tensors
        windows = weight.flatten(1).t() @ gradients[0].flatten(2)
        return F.fold(windows, ctx.shape, weight.shape[2:], *ctx.window), None, None, None, None, None
