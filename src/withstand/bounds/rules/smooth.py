"""Smooth functions: critical points solve f'(x) = slope, in closed form."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from withstand.bounds.rule import Elementwise, add_rule, concave, convex, mixed, pieces


def _sigmoid(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    root = (1 - 4 * slope).sqrt()
    point = ((1 + root) ** 2 / (4 * slope)).log()
    return [point, -point]


def _tanh(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    point = ((1 + (1 - slope).sqrt()) / slope.sqrt()).log()
    return [point, -point]


def _softplus(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return [slope.log() - torch.log1p(-slope)]


def _exp(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return [slope.log()]


def _log(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return [slope.reciprocal()]


def _sqrt(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    return [(2 * slope).reciprocal().square()]


def _reciprocal(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    point = (-slope).rsqrt()
    return [point, -point]


def _erf(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
    point = (-(slope * math.sqrt(math.pi) / 2).log()).sqrt()
    return [point, -point]


def _spans_zero(lo: Tensor, hi: Tensor) -> Tensor:
    return (lo <= 0) & (hi >= 0)


sigmoid_bend = pieces([0.0], [1, -1])
add_rule(Elementwise("sigmoid", _sigmoid, sigmoid_bend))
add_rule(Elementwise("tanh", _tanh, sigmoid_bend))
add_rule(Elementwise("erf", _erf, sigmoid_bend))
add_rule(Elementwise("softplus", _softplus, convex))
add_rule(Elementwise("exp", _exp, convex))
add_rule(Elementwise("log", _log, concave))
add_rule(Elementwise("sqrt", _sqrt, concave))
add_rule(Elementwise("reciprocal", _reciprocal, pieces([0.0], [-1, 1]), undefined=_spans_zero))


def _pow(lo: Tensor, hi: Tensor, slope: Tensor, *, exponent: float) -> list[Tensor]:
    zero = torch.zeros_like(lo)
    if exponent in (0, 1):
        return [zero]
    point = (slope / exponent).abs() ** (1 / (exponent - 1))
    return [zero, point, -point]


def _pow_bend(lo: Tensor, hi: Tensor, *, exponent: float) -> Tensor:
    right = 1 if exponent * (exponent - 1) >= 0 else -1
    left = 0 if not float(exponent).is_integer() else right if exponent % 2 == 0 else -right
    bend = pieces([0.0], [left, right])(lo, hi)
    return convex(lo, hi) if exponent > 0 and exponent % 2 == 0 else bend


def _pow_pole(lo: Tensor, hi: Tensor, *, exponent: float) -> Tensor:
    return _spans_zero(lo, hi) if exponent < 0 else torch.zeros_like(lo, dtype=torch.bool)


add_rule(Elementwise("pow", _pow, _pow_bend, undefined=_pow_pole))


def _elu(lo: Tensor, hi: Tensor, slope: Tensor, *, alpha: float) -> list[Tensor]:
    return [torch.zeros_like(lo), (slope / alpha).log()]


def _elu_bend(lo: Tensor, hi: Tensor, *, alpha: float) -> Tensor:
    return convex(lo, hi) if alpha <= 1 else pieces([0.0], [1, 1])(lo, hi)


add_rule(Elementwise("elu", _elu, _elu_bend))


def _waves(shift: float) -> Callable[..., list[Tensor]]:
    """First and last point in [lo, hi] of each family where sin(x + shift)' = slope: between them only the trend of
    -slope * x matters."""

    def critical(lo: Tensor, hi: Tensor, slope: Tensor) -> list[Tensor]:
        turn = 2 * math.pi
        angle = slope.clamp(-1, 1).acos()
        points = []
        for base in (angle - shift, -angle - shift):
            points.append(base + turn * ((lo - base) / turn).ceil())
            points.append(base + turn * ((hi - base) / turn).floor())
        return points

    return critical


def _too_far(lo: Tensor, hi: Tensor) -> Tensor:
    """Where neighbouring numbers are so far apart that the phase of a wave is lost."""
    return torch.maximum(lo.abs(), hi.abs()) * torch.finfo(lo.dtype).eps > 1e-4


add_rule(Elementwise("sin", _waves(0.0), mixed, undefined=_too_far, slack=64))
add_rule(Elementwise("cos", _waves(math.pi / 2), mixed, undefined=_too_far, slack=64))
