"""Which neuron to split: by what its lines cost where the row is least, and a look ahead at the children of the best.

The scores are in the style of BaBSR (Bunel et al. 2020, arXiv:1909.06588) and the look ahead in that of filtered smart
branching (De Palma et al. 2021, arXiv:2104.06718).
"""

import torch
from torch import Tensor

from withstand.verification.dual import Ascent, Dual, Found, bound, lines
from withstand.verification.reduced import Reduced

NO_STEPS = Ascent(steps=0)


def split(found: Found, neuron: Tensor, point: Tensor) -> Dual:
    """Both parts of every domain, cut where its neuron [D] is at a point [D]: first all lower parts, then all upper.

    The new constraint's price is the one with which a ReLU's part is bounded no worse than the whole was.
    """
    dual, rows = found.dual, torch.arange(len(found))
    lower, upper = (dual[rows] for _ in range(2))
    lower.high[rows, neuron], lower.phase[rows, neuron] = point, -1.0
    upper.low[rows, neuron], upper.phase[rows, neuron] = point, 1.0
    slope, part = dual.lower[rows, neuron], found.parts[rows, neuron].clamp(min=0)
    lower.price[rows, neuron], upper.price[rows, neuron] = part * slope, part * (1 - slope)
    return Dual.join([lower, upper])


def losses(network: Reduced, found: Found) -> tuple[Tensor, Tensor]:
    """What the lines of every neuron cost the bound: [D, U] at the point where the row is least, and at most."""
    line = lines(network, found.dual)
    z, first, true = found.before, 0, []
    for block in network.neurons:
        true.append(block.function(z[:, first : first + len(block)]))
        first += len(block)
    f = torch.cat([z[:, :0], *true], 1)
    below, above = found.parts.clamp(min=0), -found.parts.clamp(max=0)
    under = f - line.lower_slope * z - line.lower_offset
    here = below * under + above * (line.upper_slope * z + line.upper_offset - f)
    slope, low, high = found.dual.lower, found.dual.low, found.dual.high
    bent = (low < 0) & (high > 0)
    most = above * line.upper_offset + below * torch.minimum(-slope * low, (1 - slope) * high)
    return torch.where(bent, here.clamp(min=0), 0.0), torch.where(bent, most, 0.0)


def choose(network: Reduced, found: Found, enough: Tensor, width: int = 4) -> Tensor:
    """The neuron [D] to split on every domain, -1 where none is bent.

    The `width` neurons of most loss at the point, and as many of most loss at all, are tried: the one whose worse child
    has the greater bound is taken.
    """
    here, most = losses(network, found)
    bent = (found.dual.low < 0) & (found.dual.high > 0)
    count = min(width, here.shape[1])
    if not count:
        return torch.full_like(found.bound, -1, dtype=torch.long)
    tried = torch.cat([here.topk(count, 1).indices, most.topk(count, 1).indices], 1)
    size, ways = tried.shape
    rows = torch.arange(size).repeat_interleave(ways)
    children = split(found[rows], tried.flatten(), found.bound.new_zeros(size * ways))
    mix = None if found.mix is None else found.mix[rows].repeat(2, 1)
    value = bound(network, children, mix, NO_STEPS).bound.reshape(2, size, ways)
    value = torch.minimum(value, enough[:, None] + (enough - found.bound)[:, None].abs())
    score = value.amin(0) + 0.1 * value.amax(0)
    score = torch.where(bent.gather(1, tried), score, -torch.inf)
    best = score.argmax(1, keepdim=True)
    chosen = tried.gather(1, best).squeeze(1)
    return torch.where(bent.any(1), chosen, -1)
