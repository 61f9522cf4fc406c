"""Softmax and its logarithm: exact boxes, and planes for the logarithm."""

from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.bounds.planes import dot
from withstand.bounds.rule import Box, Nonlinear, add_rule


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
    return torch.nn.functional.logsigmoid(least), torch.nn.functional.logsigmoid(most)


def _log_softmax_backward(rows: Tensor, boxes: Sequence[Box], *, dim: int) -> tuple[list[Tensor], Tensor]:
    """x_i - L with the convex L = log sum exp x: below by its tangent at the middle, above by its largest value. Rows
    that add up to zero do not see L at all, so differences of log-probabilities are exact."""
    low, high = boxes[0]
    total = rows.sum(dim + 1, keepdim=True)
    middle = low / 2 + high / 2
    tangent = middle.softmax(dim)
    base = middle.logsumexp(dim, keepdim=True) - (tangent * middle).sum(dim, keepdim=True)
    falls, rises = total.clamp(max=0), total.clamp(min=0)
    constant = dot(-falls, base) + dot(-rises, high.logsumexp(dim, keepdim=True))
    return [rows - falls * tangent[:, None]], constant


add_rule(Nonlinear("softmax", _softmax_box))
add_rule(Nonlinear("log_softmax", _log_softmax_box, _log_softmax_backward))
