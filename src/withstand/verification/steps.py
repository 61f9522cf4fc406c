"""Steps of gradient ascent, coordinate by coordinate: directions between -1 and 1 about."""

import torch
from torch import Tensor

Moments = dict[str, tuple[Tensor, Tensor]]
"""What the steps on each variable remember."""

FIRST, LONGEST, LONGER, SHORTER = 0.05, 0.25, 1.2, 0.5
"""Of Rprop: the first step and the longest in shares of a coordinate's range, and how these change."""


def adam(moments: Moments, name: str, gradient: Tensor, step: int) -> Tensor:
    """Adam's direction (Kingma and Ba 2015), with a little less memory of the direction than usual: .8."""
    if name not in moments:
        moments[name] = (torch.zeros_like(gradient), torch.zeros_like(gradient))
    first, second = moments[name]
    first.mul_(0.8).add_(gradient, alpha=0.2)
    second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
    scale = (second / (1 - 0.99 ** (step + 1))).sqrt_().add_(1e-30)
    return first / (1 - 0.8 ** (step + 1)) / scale


def rprop(moments: Moments, name: str, gradient: Tensor) -> Tensor:
    """Rprop's step (Riedmiller and Braun 1993): longer while the gradient keeps its sign, shorter where it turned.

    The gradients of slopes are those of a concave function that is smooth in each slope alone: 20 such steps bring
    sigmoid networks as far as some hundred of Adam's.
    """
    if name not in moments:
        moments[name] = (torch.zeros_like(gradient), torch.full_like(gradient, FIRST))
    before, length = moments[name]
    sign = gradient.sign()
    kept = sign * before
    length.mul_(torch.where(kept > 0, LONGER, torch.where(kept < 0, SHORTER, 1.0))).clamp_(max=LONGEST)
    before.copy_(sign)
    return sign * length
