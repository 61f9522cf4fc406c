"""Softmax and its logarithm: exact boxes, and planes by log-odds.

softmax_j = sigmoid(x_j - L_j), with L_j the logarithm of the sum of exp over the others: convex, so a tangent is below
it. The planes are those of sigmoid over the exact range of the log-odds, with planes of L_j put in (compare Wei et al.
2023, arXiv:2303.01713, who go by exp, log and reciprocal).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from withstand.bounds import relax
from withstand.bounds.envelope import supporting
from withstand.bounds.patterns import Along
from withstand.bounds.planes import Planes, dot
from withstand.bounds.rule import Box, Elementwise, Nonlinear, add_rule, rules


def _others(x: Tensor, dim: int) -> Tensor:
    """log of the sum of exp over all other elements along `dim`, without cancellation: from both sides."""
    x = x.movedim(dim, -1)
    none = torch.full_like(x[..., :1], -torch.inf)
    before = torch.cat([none, x[..., :-1].logcumsumexp(-1)], -1)
    after = torch.cat([x[..., 1:].flip(-1).logcumsumexp(-1).flip(-1), none], -1)
    return torch.logaddexp(before, after).movedim(-1, dim)


def _odds(box: Box, dim: int) -> Box:
    """Least and largest x_i - log sum of the others' exp: each extreme is reached at a corner of the box."""
    low, high = box
    least = (low - _others(high, dim)).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    most = (high - _others(low, dim)).nan_to_num(torch.inf, torch.inf, -torch.inf)
    return least, most


def _softmax_box(box: Box, *, dim: int) -> Box:
    least, most = _odds(box, dim)
    return least.sigmoid(), most.sigmoid()


def _log_softmax_box(box: Box, *, dim: int) -> Box:
    least, most = _odds(box, dim)
    return functional.logsigmoid(least), functional.logsigmoid(most)


def _below(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [..., n] and constant [...] of the tangent to log sum exp in the middle of a box [..., n]."""
    middle = low / 2 + high / 2
    slopes = middle.softmax(-1)
    constant = middle.logsumexp(-1) - (slopes * middle).sum(-1)
    known = constant.isfinite()
    return slopes.masked_fill(~known[..., None], 0.0), constant.where(known, low.logsumexp(-1))


def _above(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [..., n] and constant [...] of a plane above log sum exp over a box [..., n]: the tangent in the
    middle to the logarithm of the sum of exp's chords; for few numbers, two at a time by the chord of softplus."""
    if low.shape[-1] <= 3:
        slopes, constant = _above_few(low, high)
    else:
        top = high.amax(-1, keepdim=True)
        width = high - low
        start, end = (low - top).exp(), (high - top).exp()
        chords = torch.where(width > 1e-4, (end - start) / width, (start + end) / 2)
        total = (start + end).sum(-1, keepdim=True) / 2
        slopes = chords / total
        constant = (total.log() + top).squeeze(-1) - (slopes * (low / 2 + high / 2)).sum(-1)
    known = slopes.isfinite().all(-1) & constant.isfinite()
    return slopes.masked_fill(~known[..., None], 0.0), constant.where(known, high.logsumexp(-1))


def _above_few(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """lse(a, b) = b + softplus(a - b), with a and b themselves of that form."""
    if low.shape[-1] == 0:
        return low, low.logsumexp(-1)
    if low.shape[-1] == 1:
        return torch.ones_like(low), torch.zeros_like(low[..., 0])
    half = low.shape[-1] // 2
    (a_low, b_low), (a_high, b_high) = ((t[..., :half], t[..., half:]) for t in (low, high))
    (a, a_constant), (b, b_constant) = _above_few(a_low, a_high), _above_few(b_low, b_high)
    least, most = a_low.logsumexp(-1) - b_high.logsumexp(-1), a_high.logsumexp(-1) - b_low.logsumexp(-1)
    softplus = rules()["softplus"]
    assert isinstance(softplus, Elementwise)
    share = relax.chord(softplus, least, most, {})
    lift = relax.offsets(softplus, least, most, share, {})[1]
    slopes = torch.cat([share[..., None] * a, (1 - share)[..., None] * b], -1)
    return slopes, share * a_constant + (1 - share) * b_constant + lift


def _softmax(box: Box, *, dim: int) -> Planes:
    least, most = (end.movedim(dim, -1) for end in _odds(box, dim))
    low, high = (end.movedim(dim, -1) for end in box)
    size = low.shape[-1]
    index = torch.arange(size, device=low.device)
    others = (index + torch.arange(1, size, device=low.device)[:, None]).T % size
    sides = []
    for upper, plane in ((False, _above), (True, _below)):
        slopes, constant = plane(low[..., others], high[..., others])
        slopes = slopes.new_zeros(*low.shape, size).scatter(-1, others.expand_as(slopes), -slopes)
        slopes = slopes + torch.eye(size, dtype=low.dtype, device=low.device)
        at = (slopes @ (low / 2 + high / 2)[..., None]).squeeze(-1) - constant
        tilt, lift = _sigmoid_line(least, most, at, upper)
        lift = torch.where(tilt > 0, lift - tilt * constant, lift)
        sides.append(((tilt[..., None] * slopes,), lift.movedim(-1, dim)))
    (lower, floor), (over, ceiling) = sides
    return Planes(Along(dim), lower, floor, over, ceiling)


def _sigmoid_line(least: Tensor, most: Tensor, at: Tensor, upper: bool) -> tuple[Tensor, Tensor]:
    """Slope and offset of the line around sigmoid on [least, most] that is nearest at `at`."""
    sigmoid = rules()["sigmoid"]
    assert isinstance(sigmoid, Elementwise)
    tilt = supporting(sigmoid, least, most, torch.minimum(torch.maximum(at, least), most), {}, upper)
    tilt = tilt.nan_to_num(0.0, 0.0, 0.0).clamp(min=0)
    return tilt, relax.offsets(sigmoid, least, most, tilt, {})[int(upper)]


def _log_softmax(box: Box, *, dim: int) -> Planes:
    low, high = (end.movedim(dim, -1) for end in box)
    eye = torch.eye(low.shape[-1], dtype=low.dtype, device=low.device)
    sides = []
    for plane in (_above, _below):
        slopes, constant = plane(low, high)
        sides.append(((eye - slopes[..., None, :],), -constant[..., None].expand_as(low).movedim(-1, dim)))
    (lower, floor), (over, ceiling) = sides
    return Planes(Along(dim), lower, floor, over, ceiling)


def _log_softmax_rows(rows: Tensor, boxes: Sequence[Box], *, dim: int) -> tuple[list[Tensor], Tensor]:
    """x_i - L with the same L for all: rows that add up to zero do not see L at all, so differences of
    log-probabilities are exact."""
    low, high = (end.movedim(dim, -1) for end in boxes[0])
    lines = rows.movedim(dim + 1, -1)
    total = lines.sum(-1, keepdim=True)
    falls, rises = total.clamp(max=0), total.clamp(min=0)
    (below, floor), (above, ceiling) = _below(low, high), _above(low, high)
    back = lines - falls * below[:, None] - rises * above[:, None]
    return [back.movedim(-1, dim + 1)], -dot(falls, floor[..., None]) - dot(rises, ceiling[..., None])


add_rule(Nonlinear("softmax", _softmax_box, _softmax))
add_rule(Nonlinear("log_softmax", _log_softmax_box, _log_softmax, _log_softmax_rows))
