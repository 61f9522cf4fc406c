"""Tighter bounds of the neurons of a reduced network: at the root with slopes made best for every neuron and side, on
domains below with the same slopes and what their splits say."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from withstand.bounds.interval import intersect
from withstand.verification.dual import Ascent, Dual, bound, descend, lines, start
from withstand.verification.lines import bendable, joint_planes
from withstand.verification.reduced import Planes, Reduced

TRIED = 12
"""Neurons of a block whose bounds are computed again on a domain. Those that cost most are enough: bounds of
the others change few decisions and take most of the time."""


@dataclass(frozen=True)
class Slopes:
    """Of the K neurons of one block: the slopes of the lines below and above all earlier neurons [2 K, U'], for their
    lower bounds and then for their upper bounds. first: the number of its first neuron."""

    block: int
    first: int
    lower: Tensor
    upper: Tensor


def ahead(network: Reduced, number: int) -> Reduced:
    """The part of a network before a block, with the block's pre-activations as rows, and their negatives."""
    block = network.blocks[number]
    weight, offset = torch.cat([block.weight, -block.weight]), torch.cat([block.bias, -block.bias])
    return Reduced(network.region, network.blocks[:number], weight, offset)


def tighten_block(network: Reduced, number: int, how: Ascent) -> tuple[Reduced, Slopes]:
    """The network with tighter bounds of the neurons of one block, and the slopes that gave them."""
    block = network.blocks[number]
    assert not isinstance(block, Planes)
    part = ahead(network, number)
    found = bound(part, start(part)[torch.zeros(len(part.offset), dtype=torch.long)], None, how)
    low, high = intersect((block.low, block.high), (found.bound[: len(block)], -found.bound[len(block) :]))
    blocks = (*network.blocks[:number], replace(block, low=low, high=high), *network.blocks[number + 1 :])
    return replace(network, blocks=blocks), Slopes(number, len(part.low), found.dual.lower, found.dual.upper)


def tighten(network: Reduced, how: Ascent) -> tuple[Reduced, list[Slopes]]:
    """The network with the bounds of its neurons made tighter, block after block, and the slopes that did it.

    Neurons that have become lines stay in it; see `settle`.
    """
    slopes = []
    for number in tightenable(network):
        network, found = tighten_block(network, number, how)
        slopes.append(found)
    return network, slopes


def tightenable(network: Reduced) -> list[int]:
    """The blocks whose bounds depend on others."""
    return [n for n, block in enumerate(network.blocks) if n and not isinstance(block, Planes)]


def retighten(
    network: Reduced, dual: Dual, slopes: list[Slopes], since: int, worth: Tensor | None = None
) -> tuple[Dual, float]:
    """Bounds of the neurons behind neuron `since` computed again on every domain; where low > high, it is empty.

    worth [D, U]: what tighter bounds of each neuron are worth; on each domain the `TRIED` neurons of a block that are
    worth most are bounded, or all unless it is given. Returns the multiplications done as well, about.
    """
    low, high, work = dual.low.clone(), dual.high.clone(), 0.0
    domains = torch.arange(len(low))[:, None]
    for held in slopes:
        if held.first <= since:
            continue
        block = network.blocks[held.block]
        assert not isinstance(block, Planes)
        own = slice(held.first, held.first + len(block))
        bent = bendable(block, low[:, own], high[:, own])
        count = int(bent.sum(1).max())
        if worth is not None:
            count = min(count, TRIED)
        if not count:
            continue
        gain = bent.to(low.dtype) if worth is None else torch.where(bent, worth[:, own], -1.0)
        chosen = gain.topk(count, 1).indices
        rows = torch.cat([chosen, chosen + len(block)], 1)
        part = ahead(network, held.block)
        before = low[:, : held.first], high[:, : held.first]
        ends = before[0][:, None], before[1][:, None]
        expanded = Dual(*ends, held.lower[rows], held.upper[rows], *before)
        line = lines(part, expanded)
        planes = joint_planes(part, *before)
        went = descend(part, part.weight[rows], part.offset[rows], line, planes=planes)
        floor, ceiling = (went.constant + network.region.lowest(went.rows)).chunk(2, 1)
        place = (domains, held.first + chosen)
        low[place], high[place] = torch.maximum(low[place], floor), torch.minimum(high[place], -ceiling)
        work += rows.numel() * part.work
    return replace(dual, low=low, high=high), work
