"""A small generator of one flow field and one additive noise, with its weights in a plain table so that they are kept.

An encoder of three convolutions, residual blocks and two decoders, one for each result.
"""

import torch
from torch import Tensor
from torch.nn import functional

WIDTHS = (8, 16, 32)
"""Channels of the encoder's convolutions, the later two of stride 2."""

BLOCKS = 4

Weights = dict[str, Tensor]


def initial(channels: int, generator: torch.Generator) -> Weights:
    """Weights of the normal distribution of width 0.02 and no bias, for noise of so many channels."""
    narrow, middle, wide = WIDTHS
    sizes = {"down0": (1, narrow), "down1": (narrow, middle), "down2": (middle, wide)}
    sizes |= {f"block{i}{part}": (wide, wide) for i in range(BLOCKS) for part in "ab"}
    for end, made in (("flow", 2), ("noise", channels)):
        sizes |= {f"{end}0": (wide, middle), f"{end}1": (middle, narrow), f"{end}2": (narrow, made)}
    weights = {}
    for name, (come, go) in sizes.items():
        weights[f"{name}.weight"] = 0.02 * torch.randn(go, come, 3, 3, generator=generator)
        weights[f"{name}.bias"] = torch.zeros(go)
    return weights


def generate(weights: Weights, seed: Tensor) -> tuple[Tensor, Tensor]:
    """A flow [1, 2, H, W] and a noise [1, channels, H, W] in (-1, 1) from a picture of random numbers [1, 1, H, W]."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding=1)

    shapes, x = [seed.shape[2:]], seed
    for i, stride in enumerate((1, 2, 2)):
        x = _normed(conv(x, f"down{i}", stride)).relu()
        shapes.append(x.shape[2:])
    for i in range(BLOCKS):
        x = x + _normed(conv(_normed(conv(x, f"block{i}a")).relu(), f"block{i}b"))
    made = []
    for end in ("flow", "noise"):
        y = x
        for i in range(2):
            y = functional.interpolate(y, size=shapes[2 - i], mode="nearest")
            y = _normed(conv(y, f"{end}{i}")).relu()
        made.append(conv(y, f"{end}2").tanh())
    return made[0], made[1]


def _normed(x: Tensor) -> Tensor:
    """Every channel of mean 0 and variance 1."""
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
