"""Bounds of rows over many domains of a reduced network: lines of free slope and multipliers of splits, made better by
gradient steps (alpha-CROWN: Xu et al. 2021, arXiv:2011.13824; beta-CROWN: Wang et al. 2021, arXiv:2103.06624).

A row goes back through the blocks to the input, where the region gives its least value. The gradient needs no automatic
differentiation: the point where the row is least goes forward through the same lines, and a slope's gradient is the
row's coefficient times the pre-activation there, less the point where the line touches.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.touch import touch
from withstand.core.budget import check_time
from withstand.verification.batch import Batch
from withstand.verification.reduced import Neurons, Reduced

Lines = relax.Lines


@dataclass(frozen=True)
class Dual(Batch):
    """The free choices of a bound on D domains of U neurons, all [D, U]: every choice gives a sound bound.

    low, high: bounds of the pre-activations on the domain. lower, upper: slopes of the lines below and above bent
    neurons (the upper of a ReLU is its chord, whatever stands here). phase: 1 where the domain was cut at z >= low, -1
    at z <= high, 0 where it was not. price: the multiplier of that constraint, >= 0.
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
    first = 0
    for block in network.neurons:
        own = slice(first, first + len(block))
        first += len(block)
        line = relax.lines(block.rule, (low[:, own], high[:, own]), block.node.attrs)
        lower.append(line.lower_slope)
        upper.append(line.upper_slope)
    zero = torch.zeros_like(low)
    return Dual(low, high, torch.cat(lower, 1), torch.cat(upper, 1), zero, zero)


def relu_lines(low: Tensor, high: Tensor, lower: Tensor) -> Lines:
    """Lines of ReLU over [low, high] with the slope `lower` below where it is bent."""
    top, bottom = high.clamp(min=0), low.clamp(max=0)
    slope = top / (top - bottom).clamp(min=torch.finfo(low.dtype).tiny)
    below = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, lower))
    slope = torch.where(low >= 0, 1.0, slope)
    return Lines(below, torch.zeros_like(low), slope, -slope * bottom)


def lines(network: Reduced, dual: Dual) -> Lines:
    """The lines of all neurons on every domain: [D, U] each."""
    if all(block.rule.op == "relu" for block in network.neurons):
        return relu_lines(dual.low, dual.high, dual.lower)
    found, first = [], 0
    for block in network.neurons:
        own = (slice(None), slice(first, first + len(block)))
        first += len(block)
        found.append(_block_lines(block, *(getattr(dual, name)[own] for name in ("low", "high", "lower", "upper"))))
    return Lines(*(torch.cat(parts, 1) for parts in zip(*found, strict=True)))


def _block_lines(block: Neurons, low: Tensor, high: Tensor, lower: Tensor, upper: Tensor) -> Lines:
    if block.rule.op == "relu":
        return relu_lines(low, high, lower)
    attrs = block.node.attrs
    below = relax.offsets(block.rule, low, high, lower, attrs)[0]
    above = relax.offsets(block.rule, low, high, upper, attrs)[1]
    return Lines(lower, below, upper, above)


class Descent(NamedTuple):
    """Rows [..., n] at the input, their constants [...], and their coefficients [..., len] at each block."""

    rows: Tensor
    constant: Tensor
    parts: list[Tensor]


def descend(network: Reduced, rows: Tensor, constant: Tensor, line: Lines, push: Tensor | None = None) -> Descent:
    """Carry rows [..., S'] over a beginning of the state back to the input.

    line: [..., U], broadcast against the rows. push: what multipliers add to the rows at the pre-activations [..., U].
    """
    parts: list[Tensor] = []
    last = sum(map(len, network.neurons))
    for block in reversed(network.blocks):
        size = len(block)
        if isinstance(block, Neurons):
            last -= size
        if block.start >= rows.shape[-1]:
            continue
        own, rows = rows[..., block.start :], rows[..., : block.start]
        above, below = own.clamp(max=0), own.clamp(min=0)
        parts.append(own)
        if isinstance(block, Neurons):
            at = slice(last, last + size)
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
    return Descent(rows, constant, parts[::-1])


def ascend(network: Reduced, x: Tensor, descent: Descent, line: Lines) -> tuple[Tensor, Tensor]:
    """The state and the pre-activations of points x [..., n] where every neuron follows the line its row used."""
    state, before, first = x, [], 0
    for block, part in zip(network.blocks, descent.parts, strict=False):
        low = torch.nn.functional.linear(state, block.weight, block.bias)
        if isinstance(block, Neurons):
            at = slice(first, first + len(block))
            first += len(block)
            below, low_offset, above, high_offset = (t[..., at] for t in line)
            after = torch.where(part >= 0, below * low + low_offset, above * low + high_offset)
            before.append(low)
        else:
            high = torch.nn.functional.linear(state, block.upper_weight, block.upper_bias)
            after = torch.where(part >= 0, low, high)
        state = torch.cat([state, after], -1)
    return state, torch.cat([state[..., :0], *before], -1)


def evaluate(network: Reduced, x: Tensor) -> tuple[Tensor, Tensor]:
    """The true state and pre-activations of points x [K, n], where all blocks are neurons."""
    state, before = x, []
    for block in network.blocks:
        assert isinstance(block, Neurons)
        z = torch.nn.functional.linear(state, block.weight, block.bias)
        before.append(z)
        state = torch.cat([state, block.function(z)], -1)
    return state, torch.cat([state[..., :0], *before], -1)


@dataclass(frozen=True)
class Found(Batch):
    """Of every domain: the bound [D], the choices that gave it, the mix of rows [D, R], the point [D, n] where the row
    was least, the pre-activations there under the lines [D, U], and the row's coefficients at the neurons [D, U]."""

    bound: Tensor
    dual: Dual
    mix: Tensor | None
    point: Tensor
    before: Tensor
    parts: Tensor


@dataclass(frozen=True)
class Ascent:
    """Adam's steps on slopes, prices and the mix of rows.

    steps: how many. rate: length of the first steps on slopes, in shares of their range, and on prices, in shares of
    the largest coefficient; it falls by `decay` a step.
    """

    steps: int = 10
    rate: float = 0.2
    price: float = 0.2
    decay: float = 0.9

    def work(self, network: Reduced, domains: int) -> float:
        """Multiplications that bounds of so many domains cost, about: there and back for every step."""
        return 2.0 * (self.steps + 1) * domains * network.work


def bound(network: Reduced, dual: Dual, mix: Tensor | None, how: Ascent, enough: Tensor | float = torch.inf) -> Found:
    """Bounds of the rows mixed by `mix` [D, R] (convex weights) on every domain, made better step by step.

    mix: None where there is one row a domain. enough: level at which a domain's bound need not be made better; the work
    ends when all have reached it.
    """
    smooth = any(block.rule.op != "relu" for block in network.neurons)
    mixed = mix is not None and bool((mix.count_nonzero(1) > 1).any())
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    best: Found | None = None
    rate, price = how.rate, how.price
    for step in range(how.steps + 1):
        check_time()
        line = lines(network, dual)
        push = -dual.phase * dual.price
        pinned = torch.where(dual.phase > 0, dual.low, torch.where(dual.phase < 0, dual.high, 0.0))
        rows, constant = network.weight, network.offset
        if mix is not None:
            rows, constant = mix @ rows, mix @ constant
        went = descend(network, rows, constant - (push * pinned).sum(1), line, push)
        value = went.constant + network.region.lowest(went.rows)
        value = torch.where(value < torch.inf, value, -torch.inf)  # no news: around a pole, or too large a number
        point = network.region.corner(went.rows)
        state, before = ascend(network, point, went, line)
        own = [p for p, block in zip(went.parts, network.blocks, strict=True) if isinstance(block, Neurons)]
        parts = torch.cat([value.new_zeros(len(value), 0), *own], 1)
        now = Found(value, dual, mix, point, before, parts)
        best = now if best is None else best.where(now.bound > best.bound, now)
        if step == how.steps or bool((best.bound > enough).all()):
            break
        slopes = {"lower": parts.clamp(min=0) * before}
        if smooth:
            slopes = _touching(network, dual, line, parts, before)
        changed = {}
        for name, gradient in slopes.items():
            move = _adam(moments, name, gradient, step)
            changed[name] = getattr(dual, name) + rate * move
        if not smooth:
            changed["lower"] = changed["lower"].clamp(0, 1)
        largest = torch.cat([parts.abs(), parts.new_zeros(len(parts), 1)], 1).amax(1, keepdim=True)
        move = _adam(moments, "price", -dual.phase * (before - pinned), step)
        changed["price"] = torch.where(dual.phase != 0, (dual.price + price * largest * move).clamp(min=0), 0.0)
        dual = replace(dual, **changed)
        if mixed:
            assert mix is not None
            values = state @ network.weight.T + network.offset
            values = values / values.abs().amax(1, keepdim=True).clamp(min=1e-30)
            mix = mix * torch.exp(-2 * rate * values)
            mix = mix / mix.sum(1, keepdim=True)
        rate, price = rate * how.decay, price * how.decay
    assert best is not None
    return best


def _touching(network: Reduced, dual: Dual, line: Lines, parts: Tensor, before: Tensor) -> dict[str, Tensor]:
    """The gradients of both slopes: the coefficient times the pre-activation, less the point where the line touches."""
    below, above, first = [], [], 0
    for block in network.neurons:
        own = (slice(None), slice(first, first + len(block)))
        first += len(block)
        low, high, attrs = dual.low[own], dual.high[own], block.node.attrs
        below.append(touch(block.rule, low, high, line.lower_slope[own], attrs, above=False))
        above.append(touch(block.rule, low, high, line.upper_slope[own], attrs, above=True))
    return {
        "lower": parts.clamp(min=0) * (before - torch.cat(below, 1)),
        "upper": parts.clamp(max=0) * (before - torch.cat(above, 1)),
    }


def _adam(moments: dict[str, tuple[Tensor, Tensor]], name: str, gradient: Tensor, step: int) -> Tensor:
    """Adam's direction (Kingma and Ba 2015), between -1 and 1 about."""
    if name not in moments:
        moments[name] = (torch.zeros_like(gradient), torch.zeros_like(gradient))
    first, second = moments[name]
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
    scale = (second / (1 - 0.99 ** (step + 1))).sqrt_().add_(1e-30)
    return first / (1 - 0.9 ** (step + 1)) / scale
