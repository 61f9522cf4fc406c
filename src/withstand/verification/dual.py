"""Bounds of rows over many domains of a reduced network: lines of free slope and multipliers of splits, made better by
gradient steps (alpha-CROWN: Xu et al. 2021, arXiv:2011.13824; beta-CROWN: Wang et al. 2021, arXiv:2103.06624).

A row goes back through the blocks to the input, where the region gives its least value. The gradient needs no automatic
differentiation: the point where the row is least goes forward through the same lines, and a slope's gradient is the
row's coefficient times the pre-activation there, less the point where the line touches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.planes import Planes
from withstand.core.budget import check_time
from withstand.verification.batch import Batch
from withstand.verification.joint import Joint
from withstand.verification.lines import Lines, columns, joint_planes, ranges, touching
from withstand.verification.reduced import Planes as Fixed
from withstand.verification.reduced import Reduced, Region
from withstand.verification.steps import Moments, adam, rprop

SOFT, HARDER = 1.0, 0.8
"""How soft the corners are at which gradients are taken where not all neurons are ReLUs, and the factor of a step: at
the best choices of networks with few inputs a row has coefficients of zero, and its hard corners lead nowhere."""


@dataclass(frozen=True)
class Dual(Batch):
    """The free choices of a bound on D domains of U neurons, all [D, U]: every choice gives a sound bound.

    low, high: bounds of the pre-activations on the domain. lower, upper: slopes of the lines below and above bent
    neurons (the upper of a ReLU is its chord, whatever stands here). phase: 1 where the domain was cut at z >= low, -1
    at z <= high, 0 where it was not; 2 or -2 where it was cut at both, with the sign of the constraint that has the
    multiplier: one is enough, as less of both is a greater bound. price: the multiplier of that constraint, >= 0.
    """

    low: Tensor
    high: Tensor
    lower: Tensor
    upper: Tensor
    phase: Tensor
    price: Tensor


def start(network: Reduced) -> Dual:
    """The whole region as one domain, with the slopes of plain CROWN."""
    low, high = network.low[None], network.high[None]
    lower, upper = [low[:, :0]], [low[:, :0]]
    for block, own in columns(network):
        if isinstance(block, Joint):
            lower.append(torch.ones_like(low[:, own]))
            upper.append(torch.ones_like(low[:, own]))
            continue
        line = relax.lines(block.rule, (low[:, own], high[:, own]), block.node.attrs)
        lower.append(line.lower_slope)
        upper.append(line.upper_slope)
    zero = torch.zeros_like(low)
    return Dual(low, high, torch.cat(lower, 1), torch.cat(upper, 1), zero, zero)


def lines(network: Reduced, dual: Dual) -> Lines:
    """The lines of all neurons on every domain: [D, U] each."""
    return touching(network, dual.low, dual.high, dual.lower, dual.upper)[0]


class Descent(NamedTuple):
    """Rows [..., n] at the input, their constants [...], and their coefficients at each block: [..., U] of its values
    in `parts`, and of what can be split in `split`: these values, or the pre-activations of a joint block."""

    rows: Tensor
    constant: Tensor
    parts: list[Tensor]
    split: list[Tensor]


def descend(
    network: Reduced,
    rows: Tensor,
    constant: Tensor,
    line: Lines,
    push: Tensor | None = None,
    planes: Sequence[Planes] = (),
) -> Descent:
    """Carry rows [..., S'] over a beginning of the state back to the input.

    line: [..., U], broadcast against the rows. push: what multipliers add to the rows at the pre-activations [..., U].
    planes: of the joint blocks, over the first axis of the rows.
    """
    parts: list[Tensor] = []
    split: list[Tensor] = []
    around = list(planes)
    last = sum(map(len, network.neurons))
    for block in reversed(network.blocks):
        size = len(block)
        if not isinstance(block, Fixed):
            last -= size
        plane = around.pop() if isinstance(block, Joint) else None
        if block.start >= rows.shape[-1]:
            continue
        own, rows = rows[..., block.start :], rows[..., : block.start]
        above, below = own.clamp(max=0), own.clamp(min=0)
        parts.append(own)
        if not isinstance(block, Fixed):
            at = slice(last, last + size)
            if isinstance(block, Joint):
                assert plane is not None
                back, moved = block.back(plane, own)
                split.append(back)
                constant = constant + moved
            else:
                split.append(own)
                low, low_offset, high, high_offset = (t[..., at] for t in line)
                constant = constant + (below * low_offset + above * high_offset).sum(-1)
                back = below * low + above * high
            if push is not None:
                back = back + push[..., at]
            constant = constant + back @ block.bias
            rows = rows + back @ block.weight
        else:
            constant = constant + below @ block.bias + above @ block.upper_bias
            rows = rows + below @ block.weight + above @ block.upper_weight
    return Descent(rows, constant, parts[::-1], split[::-1])


def ascend(
    network: Reduced, x: Tensor, descent: Descent, line: Lines, planes: Sequence[Planes] = ()
) -> tuple[Tensor, Tensor]:
    """The state and the pre-activations of points x [..., n] where all values follow the lines their row used."""
    state, before, first, around = x, [], 0, iter(planes)
    for block, part in zip(network.blocks, descent.parts, strict=False):
        low = torch.nn.functional.linear(state, block.weight, block.bias)
        if isinstance(block, Fixed):
            high = torch.nn.functional.linear(state, block.upper_weight, block.upper_bias)
            after = torch.where(part >= 0, low, high)
        else:
            at = slice(first, first + len(block))
            first += len(block)
            before.append(low)
            if isinstance(block, Joint):
                after = block.between(next(around), low, part)
            else:
                below, low_offset, above, high_offset = (t[..., at] for t in line)
                after = torch.where(part >= 0, below * low + low_offset, above * low + high_offset)
        state = torch.cat([state, after], -1)
    return state, torch.cat([state[..., :0], *before], -1)


def evaluate(network: Reduced, x: Tensor) -> tuple[Tensor, Tensor]:
    """The true state and pre-activations of points x [K, n], where no block is known by fixed planes alone."""
    state, before = x, []
    for block in network.blocks:
        assert not isinstance(block, Fixed)
        z = torch.nn.functional.linear(state, block.weight, block.bias)
        before.append(z)
        state = torch.cat([state, block.values(z)], -1)
    return state, torch.cat([state[..., :0], *before], -1)


@dataclass(frozen=True)
class Found(Batch):
    """Of every domain: the bound [D], the choices that gave it, the mix of rows [D, R], the point [D, n] where the row
    was least, the pre-activations there or near it under the lines [D, U], and the row's coefficients at the neurons
    [D, U]."""

    bound: Tensor
    dual: Dual
    mix: Tensor | None
    point: Tensor
    before: Tensor
    parts: Tensor


@dataclass(frozen=True)
class Ascent:
    """Gradient steps on slopes, prices and the mix of rows: Adam's where all neurons are ReLUs, else Rprop's.

    steps: how many. rate: length of Adam's first step on slopes, in shares of their range. price: of the first step on
    prices, in shares of the largest coefficient. Both fall with the root of the number of steps: parts that hold no
    point are proved by prices without end, which steps that fall faster never reach.
    """

    steps: int = 20
    rate: float = 0.2
    price: float = 0.5

    def work(self, network: Reduced, domains: int) -> float:
        """Multiplications that bounds of so many domains cost, about: there and back for every step."""
        return 2.0 * (self.steps + 1) * domains * network.work


def bound(network: Reduced, dual: Dual, mix: Tensor | None, how: Ascent, enough: Tensor | float = torch.inf) -> Found:
    """Bounds of the rows mixed by `mix` [D, R] (convex weights) on every domain, made better step by step.

    mix: None where there is one row a domain. enough: level at which a domain's bound need not be made better; the work
    ends when all have reached it.
    """
    planes = joint_planes(network, dual.low, dual.high)
    mixed = mix is not None and bool((mix.count_nonzero(1) > 1).any())
    moments: Moments = {}
    best: Found | None = None
    least, most = ranges(network, dual.low, dual.high)
    for step in range(how.steps + 1):
        check_time()
        rate, price = (first / (1 + step / 4) ** 0.5 for first in (how.rate, how.price))
        line, beneath, over = touching(network, dual.low, dual.high, dual.lower, dual.upper)
        went = _lowered(network, dual, mix, line, planes)
        value = lowest(went, network.region)
        point = network.region.corner(went.rows)
        hard = network.relu or step == how.steps
        at = point if hard else network.region.corner(went.rows, SOFT * HARDER**step)
        state, before = ascend(network, at, went, line, planes)
        parts = torch.cat([value.new_zeros(len(value), 0), *went.split], 1)
        now = Found(value, dual, mix, point, before, parts)
        best = now if best is None else best.where(now.bound > best.bound, now)
        if step == how.steps or bool((best.bound > enough).all()):
            break
        slopes = {"lower": parts.clamp(min=0) * (before - beneath)}
        if not network.relu:
            slopes["upper"] = parts.clamp(max=0) * (before - over)
        changed = {}
        for name, gradient in slopes.items():
            move = rate * adam(moments, name, gradient, step) if network.relu else rprop(moments, name, gradient)
            changed[name] = torch.clamp(getattr(dual, name) + (most - least) * move, least, most)
        weights = parts.abs() if network.relu else parts.abs() * (most - least)
        largest = torch.cat([weights, parts.new_zeros(len(parts), 1)], 1).amax(1, keepdim=True)
        if network.relu:
            move = price * adam(moments, "price", -dual.phase * (before - _pinned(dual)), step)
            changed["price"] = torch.where(dual.phase != 0, (dual.price + largest * move).clamp(min=0), 0.0)
        else:
            changed |= _priced(dual, before, price * largest, moments, step)
        dual = replace(dual, **changed)
        if mixed:
            assert mix is not None
            values = state @ network.weight.T + network.offset
            values = values / values.abs().amax(1, keepdim=True).clamp(min=1e-30)
            mix = mix * torch.exp(-2 * rate * values)
            mix = mix / mix.sum(1, keepdim=True)
    assert best is not None
    return best


def bound_once(network: Reduced, dual: Dual, mix: Tensor | None) -> Tensor:
    """The bounds [D] that choices give as they stand."""
    return lowest(lowered(network, dual, mix), network.region)


def lowered(network: Reduced, dual: Dual, mix: Tensor | None) -> Descent:
    """The rows mixed by `mix` at the input, by choices as they stand."""
    return _lowered(network, dual, mix, lines(network, dual), joint_planes(network, dual.low, dual.high))


def lowest(went: Descent, region: Region) -> Tensor:
    """The least values [D] of rows over a region."""
    value = went.constant + region.lowest(went.rows)
    return torch.where(value < torch.inf, value, -torch.inf)  # no news: around a pole, or too large a number


def _lowered(network: Reduced, dual: Dual, mix: Tensor | None, line: Lines, planes: Sequence[Planes]) -> Descent:
    push = -(dual.phase if network.relu else dual.phase.sign()) * dual.price
    rows, constant = network.weight, network.offset
    if mix is not None:
        rows, constant = mix @ rows, mix @ constant
    return descend(network, rows, constant - (push * _pinned(dual)).sum(1), line, push, planes)


def _pinned(dual: Dual) -> Tensor:
    """The edge [D, U] of each constraint that has a price; 0 where there is none."""
    return torch.where(dual.phase > 0, dual.low, torch.where(dual.phase < 0, dual.high, 0.0))


def _priced(dual: Dual, before: Tensor, length: Tensor, moments: Moments, step: int) -> dict[str, Tensor]:
    """Phases and prices after a step on prices, where neurons may be cut at both ends.

    With one constraint a price stays above zero; with two, that of the one may become zero, then that of the other.
    """
    side, both = dual.phase.sign(), dual.phase.abs() > 1
    low, high = dual.low - before, dual.high - before
    idle = both & (dual.price == 0)
    rise = torch.where(idle, low.clamp(min=0) + high.clamp(max=0), torch.where(side > 0, low, high))
    signed = side * dual.price + length * adam(moments, "price", rise * (side != 0), step)
    signed = torch.where(idle, signed, side * (side * signed).clamp(min=0))
    return {"phase": torch.where(idle & (signed != 0), 2 * signed.sign(), dual.phase), "price": signed.abs()}
