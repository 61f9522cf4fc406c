"""Which neuron to split and where: by what its lines cost where the row is least, and a look ahead at the children.

The scores are in the style of BaBSR (Bunel et al. 2020, arXiv:1909.06588) and the look ahead in that of filtered smart
branching (De Palma et al. 2021, arXiv:2104.06718).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from withstand.verification.dual import Dual, Found, bound_once, descend, lines
from withstand.verification.joint import Joint
from withstand.verification.lines import Lines, columns, joint_planes, ranges, splittable
from withstand.verification.reduced import Neurons, Reduced

WIDTH = 4
"""Neurons of most loss of either kind whose children are looked at."""

LOOKS = 4 * WIDTH + 4
"""Rows on their way that the choice of one cut takes, about, its domain's own bound included."""

MARGIN = 0.1
"""Share of an interval that a cut leaves to either side at least."""


class Cut(NamedTuple):
    """Neurons [D] (-1 for none) and the points [D] of their pre-activations where domains are to be cut."""

    neuron: Tensor
    point: Tensor


def split(network: Reduced, found: Found, cut: Cut) -> Dual:
    """Both parts of every domain, cut where its neuron is at the point: first all lower parts, then all upper.

    Slopes go to the nearest ones that the smaller interval may want. The new constraint's price is the one with which
    the row's coefficient stays as it was, where that is a price at all: then a part is bounded no worse than the whole.
    """
    dual, rows, (neuron, point) = found.dual, torch.arange(len(found)), cut
    at = (rows, neuron)
    lower, upper = (dual[rows] for _ in range(2))
    lower.high[at], upper.low[at] = point, point
    if network.relu:
        slope, part = dual.lower[at], found.parts[at].clamp(min=0)
        lower.phase[at], upper.phase[at] = -1.0, 1.0
        lower.price[at], upper.price[at] = part * slope, part * (1 - slope)
        return Dual.join([lower, upper])
    slope = _used(lines(network, dual), found.parts, at)
    for child, side in ((lower, -1.0), (upper, 1.0)):
        for slopes in (child.lower, child.upper):
            torch.clamp(slopes, *ranges(network, child.low, child.high), out=slopes)
        turned = found.parts[at] * (slope - _used(lines(network, child), found.parts, at))
        signed = dual.phase[at].sign() * dual.price[at] + side * (-side * turned).clamp(min=0)
        sides = torch.where((dual.phase[at] == 0) | (dual.phase[at] == side), 1.0, 2.0)
        child.phase[at] = sides * torch.where(signed == 0, side, signed.sign())
        child.price[at] = signed.abs()
    return Dual.join([lower, upper])


def _used(line: Lines, parts: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """The slopes that rows with these coefficients take at some neurons."""
    return torch.where(parts[at] >= 0, line.lower_slope[at], line.upper_slope[at])


def losses(network: Reduced, found: Found) -> tuple[Tensor, Tensor]:
    """What the lines of every neuron cost the bound: [D, U] at the point where the row is least, and about at most.

    Joint blocks' losses are laid at their pre-activations, by the widths of these.
    """
    dual, line = found.dual, lines(network, found.dual)
    here, most = torch.zeros_like(found.before), torch.zeros_like(found.before)
    below, above = found.parts.clamp(min=0), -found.parts.clamp(max=0)
    for block, own in columns(network):
        if isinstance(block, Joint):
            continue
        at = (slice(None), own)
        low, high = dual.low[at], dual.high[at]

        def cost(z: Tensor, block: Neurons = block, at: tuple[slice, slice] = at) -> Tensor:
            f = block.values(z)
            under = f - line.lower_slope[at] * z - line.lower_offset[at]
            return below[at] * under + above[at] * (line.upper_slope[at] * z + line.upper_offset[at] - f)

        here[at] = cost(found.before[at]).clamp(min=0)
        if block.rule.op == "relu":
            slope = dual.lower[at]
            deepest = torch.minimum(-slope * low, (1 - slope) * high)
            most[at] = above[at] * line.upper_offset[at] + below[at] * deepest
        else:
            points = [low + share * (high - low) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
            here[at] = cost(torch.minimum(torch.maximum(found.before[at], low), high)).clamp(min=0)
            most[at] = torch.stack([cost(z) for z in points]).amax(0)
    if any(isinstance(block, Joint) for block in network.blocks):
        _joint_losses(network, found, here, most)
    bent = splittable(network, dual.low, dual.high)
    if not network.relu:
        bent &= most > 4 * torch.finfo(most.dtype).eps * (1 + found.bound.abs())[:, None]
    return torch.where(bent, here, 0.0), torch.where(bent, most, 0.0)


def _joint_losses(network: Reduced, found: Found, here: Tensor, most: Tensor) -> None:
    """Put the losses of joint blocks in place."""
    dual = found.dual
    planes = joint_planes(network, dual.low, dual.high)
    rows = network.weight if found.mix is None else found.mix @ network.weight
    push = -dual.phase.sign() * dual.price
    went = descend(network, rows, rows.new_zeros(len(rows)), lines(network, dual), push, planes)
    around = iter(planes)
    places = {id(block): own for block, own in columns(network)}
    for block, part in zip(network.blocks, went.parts, strict=True):
        if not isinstance(block, Joint):
            continue
        plane, at = next(around), (slice(None), places[id(block)])
        low, high = dual.low[at], dual.high[at]
        width = (high - low) / (high - low).amax(1, keepdim=True).clamp(min=torch.finfo(low.dtype).tiny)
        for into, z in ((here, found.before[at]), (most, low / 2 + high / 2)):
            z = torch.minimum(torch.maximum(z, low), high)
            floor, ceiling = block.ends(plane, z)
            f = block.values(z)
            cost = part.clamp(min=0) * (f - floor) - part.clamp(max=0) * (ceiling - f)
            into[at] = block.blame(plane, cost.clamp(min=0)) * width


def choose(network: Reduced, found: Found, enough: Tensor) -> Cut:
    """The cut of every domain; no neuron (-1) where none is bent that costs anything.

    The `WIDTH` neurons of most loss at the point, and as many of most loss at all, are tried, each at the points that
    `points` names: the one whose worse child has the greater bound is taken.
    """
    here, most = losses(network, found)
    bent = most > 0 if not network.relu else splittable(network, found.dual.low, found.dual.high)
    count = min(WIDTH, here.shape[1])
    if not count:
        return Cut(torch.full_like(found.bound, -1, dtype=torch.long), torch.zeros_like(found.bound))
    tried = torch.cat([here.topk(count, 1).indices, most.topk(count, 1).indices], 1)
    point, tried = points(network, found, tried)
    size, ways = tried.shape
    rows = torch.arange(size).repeat_interleave(ways)
    children = split(network, found[rows], Cut(tried.flatten(), point.flatten()))
    mix = None if found.mix is None else found.mix[rows].repeat(2, 1)
    value = bound_once(network, children, mix).reshape(2, size, ways)
    value = torch.minimum(value, enough[:, None] + (enough - found.bound)[:, None].abs())
    score = value.amin(0) + 0.1 * value.amax(0)
    score = torch.where(bent.gather(1, tried), score, -torch.inf)
    best = score.argmax(1, keepdim=True)
    chosen, place = tried.gather(1, best).squeeze(1), point.gather(1, best).squeeze(1)
    return Cut(torch.where(bent.any(1), chosen, -1), place)


def points(network: Reduced, found: Found, tried: Tensor) -> tuple[Tensor, Tensor]:
    """Where to cut the neurons tried [D, K]: points and neurons [D, K'].

    Functions made of straight pieces at the kink nearest to where the row is least. Others where the row is least and
    in the middle, with a share of `MARGIN` left on both sides.
    """
    if network.relu:
        return tried.new_zeros(tried.shape, dtype=found.bound.dtype), tried
    low, high, z = (t.gather(1, tried) for t in (found.dual.low, found.dual.high, found.before))
    middle, room = low / 2 + high / 2, MARGIN * (high - low)
    near = torch.minimum(torch.maximum(z, low + room), high - room)
    for block, own in columns(network):
        if isinstance(block, Neurons) and block.rule.kinks is not None:
            inside = (tried >= own.start) & (tried < own.stop)
            kink = _nearest_kink(block.rule.kinks(**block.node.attrs), low, high, z)
            middle, near = torch.where(inside, kink, middle), torch.where(inside, kink, near)
    return torch.cat([near, middle], 1), torch.cat([tried, tried], 1)


def _nearest_kink(kinks: tuple[float, ...], low: Tensor, high: Tensor, z: Tensor) -> Tensor:
    """The kink inside (low, high) that is nearest to z; any kink where none is inside."""
    places = torch.tensor(kinks, dtype=z.dtype).reshape(-1, *(1,) * z.dim())
    far = torch.where((places > low) & (places < high), (places - z).abs(), torch.inf)
    return places.expand_as(far).gather(0, far.argmin(0, keepdim=True))[0]
