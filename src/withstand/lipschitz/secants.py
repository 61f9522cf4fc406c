"""The Lipschitz constant from below: slopes of secants, in the steepest directions at the steepest points found."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.shapes import flattened
from withstand.core.spectra import greatest_eigenvalues, leading_directions
from withstand.graph.ir import Graph
from withstand.lipschitz.autolip import DUAL

ROUNDS = 30
"""Rounds of the search for steep points."""

REACH = (3.0, 1.0, 0.3, 0.1)
"""Lengths of the search's steps in turn, in spreads of the given points."""

HALVES = (1e-2, 1e-3, 1e-4, 1e-5)
"""Half the lengths of secants, of which the steepest counts."""

MOST_OUTPUTS = 64
"""Of more outputs only so many are looked at, those that are largest at the points: their constant is no larger."""

CHUNK = 2**22
"""Numbers of inputs that are differentiated together."""

HELD = 2**26
"""Numbers of derivatives that are held at once: fewer points are looked at where there would be more."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Secants:
    """Lower bounds of Lipschitz constants. value: of the whole output. rows [R]: of linear functions of it."""

    value: float
    rows: Tensor


def secants(graph: Graph, x: Tensor, p: float, rows: Tensor) -> Secants:
    """The steepest secants found from the points x [B, *input_shape], with changes measured in p: 1, 2 or inf.

    rows [R, O]: linear functions of the flat outputs, whose own constants are wanted too (none of them where there are
    more than `MOST_OUTPUTS` outputs). All in float64.

    The derivative is walked uphill by random steps, because that of a network of ReLUs is constant in pieces and has no
    gradient. What is told are changes of the output over changes of the input, less what rounding can add, so a point
    at a kink, where the derivative may be wrong, makes no figure too large.
    """
    with torch.no_grad():
        outputs = flattened(graph(x)).mean(0)
    kept = outputs.topk(min(len(outputs), MOST_OUTPUTS)).indices.sort().values

    def f(x: Tensor) -> Tensor:
        return flattened(graph(x))[:, kept]

    rows = rows[:, kept]
    x = x[: max(1, HELD // (len(kept) * x[0].numel()))]
    made = torch.Generator().manual_seed(0)
    spread = x.std() if x.numel() > 1 and bool(x.std() > 0) else 1.0
    points, (steep, found) = x, _steepness(f, x, p, rows)
    peaks, best = x[found.argmax(0)], found.amax(0)
    for turn in range(ROUNDS):
        step = torch.randn(points.shape, generator=made, dtype=x.dtype)
        tried = points + step * (spread * REACH[turn % len(REACH)])
        now, found = _steepness(f, tried, p, rows)
        points, steep = _where(now > steep, tried, points), torch.maximum(now, steep)
        top, place = found.max(0)
        peaks, best = _where(top > best, tried[place], peaks), torch.maximum(top, best)
    top = points[steep.argmax()][None]
    whole = _slopes(f, top, _leading(_jacobian(f, top), p), None, p)
    if not len(rows):
        return Secants(float(whole), whole[:0])
    gradients = torch.einsum("ro,ron->rn", rows, _jacobian(f, peaks))
    return Secants(float(whole), _slopes(f, peaks, _towards(gradients, p), rows, p))


def _where(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *(1,) * (old.dim() - 1)), new, old)


def _jacobian(f: Function, x: Tensor) -> Tensor:
    """[B, O, n]: the derivatives of the outputs by the flat inputs."""
    with torch.no_grad():
        outputs = f(x[:1]).numel()
    index = torch.arange(outputs)
    found = []
    for part in x.split(max(1, CHUNK // (outputs * x[0].numel()))):
        many = part.repeat_interleave(outputs, 0).requires_grad_()
        with torch.enable_grad():
            values = f(many).gather(1, index.repeat(len(part))[:, None])
            (slopes,) = torch.autograd.grad(values.sum(), many)
        found.append(slopes.reshape(len(part), outputs, -1))
    return torch.cat(found)


def _steepness(f: Function, x: Tensor, p: float, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The norms of the derivative [B], and of those of the rows [B, R]."""
    jacobian = _jacobian(f, x)
    if p == 2:
        gram = jacobian @ jacobian.mT
        squares = torch.einsum("ro,bop,rp->br", rows, gram, rows)
        return greatest_eigenvalues(gram, below=True).clamp(min=0).sqrt(), squares.clamp(min=0).sqrt()
    norms = jacobian.abs().sum(1 if p == 1 else 2).amax(1)
    each = [torch.linalg.vector_norm(one @ jacobian, DUAL[p], dim=1) for one in rows]
    return norms, torch.stack(each, 1) if len(rows) else norms.new_zeros(len(x), 0)


def _leading(jacobian: Tensor, p: float) -> Tensor:
    """Directions [B, n] along which the output changes most, for derivatives [B, O, n]."""
    if p == 2:
        return leading_directions(jacobian)
    if p == 1:
        place = jacobian.abs().sum(1).argmax(1)
        return torch.nn.functional.one_hot(place, jacobian.shape[2]).to(jacobian)
    steepest = jacobian.abs().sum(2).argmax(1)
    return jacobian[torch.arange(len(jacobian)), steepest].sign()


def _towards(gradient: Tensor, p: float) -> Tensor:
    """Directions [R, n] in which functions of these gradients [R, n] grow fastest."""
    if p == 2:
        return gradient / gradient.norm(dim=1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
    if p == 1:
        place = gradient.abs().argmax(1)
        return torch.nn.functional.one_hot(place, gradient.shape[1]).to(gradient)
    return gradient.sign()


def _slopes(f: Function, x: Tensor, direction: Tensor, rows: Tensor | None, p: float) -> Tensor:
    """The steepest secants [B] through x [B, *shape] along directions [B, n]: of f, or of one row [B, O] of it each."""
    best = x.new_zeros(len(x))
    step = direction.reshape(x.shape)
    for half in HALVES:
        ends = [x + half * step, x - half * step]
        with torch.no_grad():
            values = [f(end) for end in ends]
        values = values if rows is None else [(rows * value).sum(1, keepdim=True) for value in values]
        change = torch.linalg.vector_norm(values[0] - values[1], p, dim=1)
        length = torch.linalg.vector_norm(flattened(ends[0] - ends[1]), p, dim=1)
        rounding = 64 * torch.finfo(x.dtype).eps * (1 + sum(value.abs().amax(1) for value in values))
        slope = (change - rounding) / length
        best = torch.fmax(best, torch.where(slope < torch.inf, slope, 0.0))  # squares of large numbers overflow
    return best
