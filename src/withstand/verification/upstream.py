"""Cuts that pay by tighter bounds of later neurons, which a look ahead at the row alone does not see."""

import torch
from torch import Tensor

from withstand.verification.branching import NO_STEPS, Cut, losses, points, split
from withstand.verification.dual import Found, bound, lines
from withstand.verification.joint import Joint
from withstand.verification.lines import columns, joint_planes, splittable
from withstand.verification.reduced import Planes, Reduced
from withstand.verification.tighten import Slopes, retighten


def better(network: Reduced, found: Found, cut: Cut, slopes: list[Slopes], enough: float) -> Cut:
    """On every domain the given cut, or one in the middle of the neuron that widens later ones most: the one whose
    worse child has the greater bound when the neurons behind it have been tightened."""
    score = widening(network, found)
    neuron = score.argmax(1, keepdim=True)
    point, neurons = points(network, found, neuron)
    useful = (score.gather(1, neuron).squeeze(1) > 0) & (cut.neuron >= 0)
    rival = Cut(torch.where(useful, neurons[:, -1], cut.neuron), torch.where(useful, point[:, -1], cut.point))
    rows = useful.nonzero().squeeze(1)
    if not len(rows):
        return cut
    values = [_worse(network, found[rows], Cut(c.neuron[rows], c.point[rows]), slopes, enough) for c in (cut, rival)]
    wins = useful.index_put((rows,), values[1] > values[0])
    return Cut(torch.where(wins, rival.neuron, cut.neuron), torch.where(wins, rival.point, cut.point))


def _worse(network: Reduced, found: Found, cut: Cut, slopes: list[Slopes], enough: float) -> Tensor:
    """The score of a cut: the bound of its worse child, and a little of the other's."""
    children = retighten(network, split(network, found, cut), slopes, int(cut.neuron.min()))
    mix = None if found.mix is None else found.mix.repeat(2, 1)
    value = bound(network, children, mix, NO_STEPS).bound
    value = torch.where((children.low <= children.high).all(1), value, torch.inf).reshape(2, -1)
    value = torch.minimum(value, enough + (enough - found.bound).abs())
    return value.amin(0) + 0.1 * value.amax(0)


def widening(network: Reduced, found: Found) -> Tensor:
    """About how much of the loss of later neurons comes from the distance of every neuron's lines: [D, U].

    A neuron's loss is taken to grow as the square of its width, and widths to pass back by absolute weights.
    """
    dual, line = found.dual, lines(network, found.dual)
    most = losses(network, found)[1]
    width = (dual.high - dual.low).clamp(min=torch.finfo(most.dtype).tiny)
    per_width = 2 * most / width
    score = torch.zeros_like(most)
    planes = joint_planes(network, dual.low, dual.high)
    places = {id(block): own for block, own in columns(network)}
    passed = most.new_zeros(len(most), network.weight.shape[1])
    for block in reversed(network.blocks):
        behind, passed = passed[:, block.start :], passed[:, : block.start]
        if isinstance(block, Planes):
            weight = torch.maximum(block.weight.abs(), block.upper_weight.abs())
            passed = passed + behind @ weight
            continue
        at = (slice(None), places[id(block)])
        middle = (dual.low[at] + dual.high[at]) / 2
        if isinstance(block, Joint):
            plane = planes.pop()
            floor, ceiling = block.ends(plane, middle)
            share = width[at] / width[at].amax(1, keepdim=True)
            score[at] = block.blame(plane, behind * (ceiling - floor).clamp(min=0)) * share
            through = block.slack(plane, behind)
        else:
            below, floor, above, ceiling = (t[at] for t in line)
            score[at] = behind * ((above - below) * middle + ceiling - floor).clamp(min=0)
            through = behind * torch.maximum(below.abs(), above.abs())
        passed = passed + (per_width[at] + through) @ block.weight.abs()
    return torch.where(splittable(network, dual.low, dual.high), score, 0.0)
