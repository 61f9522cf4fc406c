"""The lines around all neurons of a reduced network on many domains, and what their free slopes may be."""

from collections.abc import Iterator

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.planes import Planes
from withstand.bounds.touch import slope_range, supports
from withstand.verification.joint import Joint
from withstand.verification.reduced import Neurons, Reduced

Lines = relax.Lines


def relu_lines(low: Tensor, high: Tensor, lower: Tensor) -> Lines:
    """Lines of ReLU over [low, high] with the slope `lower` below where it is bent."""
    top, bottom = high.clamp(min=0), low.clamp(max=0)
    slope = top / (top - bottom).clamp(min=torch.finfo(low.dtype).tiny)
    below = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, lower))
    slope = torch.where(low >= 0, 1.0, slope)
    return Lines(below, torch.zeros_like(low), slope, -slope * bottom)


def columns(network: Reduced) -> Iterator[tuple[Neurons | Joint, slice]]:
    """The blocks that can be split, and the places of their neurons among all."""
    first = 0
    for block in network.neurons:
        yield block, slice(first, first + len(block))
        first += len(block)


def touching(
    network: Reduced, low: Tensor, high: Tensor, lower: Tensor, upper: Tensor
) -> tuple[Lines, Tensor | float, Tensor | float]:
    """The lines [D, U] of slopes `lower` and `upper`, and where the lower and the upper ones touch their functions.

    The pre-activations of joint blocks stand for themselves: their lines are exact.
    """
    if network.relu:
        return relu_lines(low, high, lower), 0.0, 0.0
    lines, below, above = [], [], []
    for block, own in columns(network):
        lo, hi, low_slope, high_slope = (t[..., own] for t in (low, high, lower, upper))
        zero = torch.zeros_like(low_slope + lo)
        floor, ceiling, beneath, over = zero, zero, zero, zero
        if isinstance(block, Joint):
            line = Lines(torch.ones_like(zero), zero, torch.ones_like(zero), zero)
        elif block.rule.op == "relu":
            line = relu_lines(lo, hi, low_slope)
        else:
            floor, beneath = supports(block.rule, lo, hi, low_slope, block.node.attrs, above=False)
            ceiling, over = supports(block.rule, lo, hi, high_slope, block.node.attrs, above=True)
            line = Lines(low_slope, floor, high_slope, ceiling)
        lines.append([part.expand_as(zero) for part in line])
        below.append(beneath.expand_as(zero))
        above.append(over.expand_as(zero))
    joined = Lines(*(torch.cat(parts, -1) for parts in zip(*lines, strict=True)))
    return joined, torch.cat(below, -1), torch.cat(above, -1)


def ranges(network: Reduced, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest slope [D, U] that lines of the neurons may want over [low, high]."""
    if network.relu:
        return low.new_zeros(()), low.new_ones(())
    least, most = [], []
    for block, own in columns(network):
        lo, hi = low[..., own], high[..., own]
        ends = torch.zeros_like(lo), torch.ones_like(lo)
        if isinstance(block, Joint):
            ends = ends[1], ends[1]
        elif block.rule.op != "relu":
            ends = slope_range(block.rule, lo, hi, block.node.attrs)
        least.append(ends[0])
        most.append(ends[1])
    return torch.cat(least, -1), torch.cat(most, -1)


def joint_planes(network: Reduced, low: Tensor, high: Tensor) -> list[Planes]:
    """The planes of every joint block on D domains whose neurons have bounds low and high [D, U]."""
    if network.relu:
        return []
    blocks = [(block, own) for block, own in columns(network) if isinstance(block, Joint)]
    return [block.planes(low[:, own], high[:, own]) for block, own in blocks]


def splittable(network: Reduced, low: Tensor, high: Tensor) -> Tensor:
    """Which neurons may be cut on domains with bounds low and high: bool [D, U]."""
    if network.relu:
        return (low < 0) & (high > 0)
    return torch.cat([bendable(block, low[:, own], high[:, own]) for block, own in columns(network)], 1)


def bendable(block: Neurons | Joint, low: Tensor, high: Tensor) -> Tensor:
    """Which neurons of a block may be cut on domains with their bounds low and high: bool [D, U].

    Functions made of straight pieces where a kink is inside, others while the interval is wider than the root of a
    rounding: below that a line is as near to a smooth function as numbers are to each other.
    """
    if isinstance(block, Neurons) and block.rule.kinks is not None:
        return relax.gap(block.rule, (low, high), block.node.attrs)
    root = 8 * torch.finfo(low.dtype).eps ** 0.5
    return high - low > root * torch.maximum(low.abs(), high.abs()).clamp(min=1)
