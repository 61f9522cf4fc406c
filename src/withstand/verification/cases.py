"""The regions of a VNN-LIB file as questions of one batch."""

from collections.abc import Sequence

import torch

from withstand.core.box import Box
from withstand.core.property import Linear
from withstand.io.vnnlib import Region


def gather(regions: Sequence[Region]) -> tuple[Box, Linear]:
    """Regions as one threat and one property, the q-th region, as the network can be given it, being the question of
    row q with target q.

    Every region gets the same layout of rows: its groups filled up by their own first row, its missing groups by its
    first group, neither of which changes its margin.
    """
    lower, upper = (torch.stack([getattr(r.deployed, edge) for r in regions]) for edge in ("lower", "upper"))
    counts = [torch.bincount(r.property.group).tolist() for r in regions]
    sizes = [max(c[k] if k < len(c) else c[0] for c in counts) for k in range(max(map(len, counts)))]
    weight, offset = [], []
    for region in regions:
        group = region.property.group
        order = []
        for number, size in enumerate(sizes):
            own = (group == (number if number <= int(group.max()) else 0)).nonzero().squeeze(1).tolist()
            order += own + own[:1] * (size - len(own))
        weight.append(region.property.weight[order])
        offset.append(region.property.offset[order])
    layout = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return Box(lower=lower, upper=upper), Linear(torch.stack(weight), torch.stack(offset), layout)
