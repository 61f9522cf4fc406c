"""The model as an attack may see it: with gradients, with scores or with labels only; averaged if it is random."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.evidence import Ask
from withstand.core.property import Property
from withstand.core.rng import RowRandom
from withstand.core.shapes import flattened
from withstand.core.threat import Threat, rowwise

TILE = 16
"""Model calls are filled up to a multiple of this many rows, because matrix kernels round leftover rows differently:
without it a row's result would depend on how many others are in the batch or still alive. A function of the user's that
no graph stands for is never asked about such rows, because its queries are counted."""

CALL = 1024
"""Rows of one model call at most, where an attack asks for many points a row."""


class Access(StrEnum):
    """What the model shows: gradients, scores only (gradients are then estimated from queries), or labels only."""

    GRADIENT = "gradient"
    SCORES = "scores"
    LABELS = "labels"

    def shows(self, need: "Access") -> bool:
        """Whether an attack of this need can be served: gradients can be estimated from scores, scores not from
        labels."""
        return self is not Access.LABELS or need is Access.LABELS


class ModelRaised(InputError):
    """The model itself raised an error. `row`: of the batch it was given."""

    def __init__(self, row: int, error: Exception, name: object = None) -> None:
        self.row, self.error = row, error
        super().__init__(
            f"The model raised {type(error).__name__} ({' '.join(str(error).split())[:200]}) on sample "
            f"{row if name is None else name}; mend the model, or leave that sample out."
        )


@dataclass(frozen=True)
class Answer:
    """What the model says at n points: margin [n], loss [n] or [n, T], targets [n, T], and the gradient of the loss,
    of the loss's shape followed by a point's (None: not asked for)."""

    margin: Tensor
    loss: Tensor
    targets: Tensor
    grad: Tensor | None = None


@dataclass(frozen=True)
class Oracle:
    """model, property and threat of the question, and what an attack may see of them.

    probes: pairs of queries of an estimated gradient. surrogate: a model whose answers the attack sees in place of
    the model's own (None: the model itself). draws: answers of a random model that are averaged; its margin is their
    median, so a point counts as a violation where most draws are violated (Athalye et al. 2018, arXiv:1707.07397).
    lead: margins are told larger by this share of the outputs' size, at least 1, so that searches for the nearest
    violation do not end where another rounding would hold. counted: the model is not asked about rows that fill up.
    """

    model: Callable[[Tensor], Tensor]
    property: Property
    threat: Threat
    access: Access = Access.GRADIENT
    probes: int = 20
    surrogate: Callable[[Tensor], Tensor] | None = None
    draws: int = 1
    lead: float = 0.0
    counted: bool = False

    def pick(self, rows: Tensor, x0: Tensor) -> Self:
        """The oracle of rows of the batch x0."""
        return replace(self, threat=self.threat.pick(rows, x0))

    def cost(self, grad: bool) -> int:
        """Forward rows of the model that one point costs."""
        estimates = grad and self.access is Access.SCORES and self.surrogate is None
        return self.draws * (1 + 2 * self.probes * estimates)

    def answer(self, x0: Tensor, x: Tensor, y: Tensor, ask: Ask, rng: RowRandom) -> tuple[Answer, Tensor]:
        """What the attack is told of points x [n, *shape] around x0 [n, *shape], and the model's true margin [n]."""
        if self.surrogate is not None:
            seen = replace(self, model=self.surrogate, surrogate=None, access=Access.GRADIENT, draws=1)
            return seen.answer(x0, x, y, ask, rng)[0], self.score(x0, x, y).margin
        if ask.grad and self.access is Access.GRADIENT:
            told = self._differentiate(x0, x, y, ask)
            if getattr(self.model, "differs", None) is not None:  # its gradients are those of another function
                return told, self.score(x0, x, y).margin
        else:
            told = self.score(x0, x, y, ask)
            if ask.grad:
                told = replace(told, grad=self._estimate(x0, x, y, ask, rng))
        return told, told.margin

    def score(self, x0: Tensor, x: Tensor, y: Tensor, ask: Ask | None = None) -> Answer:
        """The answer at x without a gradient."""
        with torch.no_grad():
            return self._read(self.threat.deploy(x0, x), y, ask)

    def _read(self, inputs: Tensor, y: Tensor, ask: Ask | None) -> Answer:
        if self.draws == 1:
            return self._measure(self._outputs(inputs), y, ask)
        outputs = self._outputs(inputs.repeat(self.draws, *(1,) * (inputs.dim() - 1)))
        drawn = [self._measure(part, y, ask) for part in outputs.chunk(self.draws)]
        margin = torch.stack([one.margin for one in drawn]).median(0).values
        loss, targets = (torch.stack(parts).mean(0) for parts in zip(*((d.loss, d.targets) for d in drawn)))
        return Answer(margin, loss, targets)

    def _measure(self, outputs: Tensor, y: Tensor, ask: Ask | None) -> Answer:
        """Margin, targets and the loss asked for, from outputs."""
        property = self.property
        targets = property.targets(outputs, y)
        margin = property.margin(outputs, y)
        if self.lead:
            ahead = self.lead * flattened(outputs.detach()).abs().amax(1).clamp(min=1)
            targets, margin = targets + ahead[:, None], margin + ahead
        if ask is None or (ask.loss == "margin" and ask.target is None and ask.weights is None):
            loss = margin
        elif ask.weights is not None:
            loss = (ask.weights.to(targets) * targets).sum(1)
        elif ask.target is not None and ask.target.dim() == 2:
            every = ask.target.unbind(1)
            loss = torch.stack([property.loss(ask.loss, outputs, y, one) for one in every], 1)
        else:
            loss = property.loss(ask.loss, outputs, y, ask.target)
        return Answer(margin.detach(), loss, targets.detach())

    def _outputs(self, x: Tensor) -> Tensor:
        parts, start = [], 0
        for part in x.split(CALL):
            try:
                parts.append(self._call(part))
            except ModelRaised as raised:
                raise ModelRaised((start + raised.row) % (len(x) // self.draws), raised.error) from raised.error
            start += CALL
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _call(self, x: Tensor) -> Tensor:
        missing = 0 if self.counted else -len(x) % TILE
        filled = torch.cat([x, x[-1:].detach().expand(missing, *x.shape[1:])]) if missing else x
        return call(self.model, filled)[: len(x)]

    def _differentiate(self, x0: Tensor, x: Tensor, y: Tensor, ask: Ask) -> Answer:
        with torch.enable_grad():
            if self.threat.rendered:
                leaf = x.detach().requires_grad_()
                inputs = self.threat.render(x0, leaf)
                if self.threat.levels is not None:
                    inputs = inputs + (self.threat.deploy(x0, leaf) - inputs).detach()
            else:
                inputs = leaf = self.threat.deploy(x0, x).detach().requires_grad_()
            read = self._read(inputs, y, ask)
            several = read.loss.dim() == 2
            grads = [slope_of(loss, leaf, retain=several) for loss in (read.loss.unbind(1) if several else [read.loss])]
        grad = torch.stack(grads, 1) if several else grads[0]
        return Answer(read.margin, read.loss.detach(), read.targets, grad)

    def _estimate(self, x0: Tensor, x: Tensor, y: Tensor, ask: Ask, rng: RowRandom) -> Tensor:
        """Antithetic Gaussian probes. Probes stop at the edges of the domain, which halves the estimate there but keeps
        its sign. A quantised input is probed on its grid."""
        low, high = (-math.inf, math.inf) if self.threat.rendered else self.threat.domain
        grain = 0.0 if self.threat.rendered else self.threat.grain
        width = grain or 1e-3 * (high - low if math.isfinite(high - low) else 1.0)
        slope = torch.zeros_like(x)
        for _ in range(self.probes):
            probe = rng.normal(x.shape[1:], x.dtype)
            if grain:
                probe = probe.round()
            up, down = ((x + sign * width * probe).clamp(low, high) for sign in (1, -1))
            rise = self.score(x0, up, y, ask).loss - self.score(x0, down, y, ask).loss
            part = rise / (2 * width * self.probes)
            if part.dim() == 2:
                slope = slope if slope.dim() > x.dim() else slope[:, None]
                slope = slope + probe[:, None] * part.reshape(*part.shape, *(1,) * (x.dim() - 1))
            else:
                slope += probe * rowwise(part, x)
        return slope


def call(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The model's outputs at x [n, *shape]. Raises ModelRaised, which names the row, where the model raises."""
    try:
        return model(x)
    except InputError:
        raise
    except Exception as error:
        for row in range(len(x)):
            try:
                model(x[row : row + 1])
            except Exception as alone:
                raise ModelRaised(row, alone) from alone
        raise ModelRaised(0, error) from error


def slope_of(loss: Tensor, leaf: Tensor, retain: bool) -> Tensor:
    """The gradient of the summed loss, zero where it does not depend on the leaf."""
    if not loss.requires_grad:
        return torch.zeros_like(leaf)
    slope = torch.autograd.grad(loss.sum(), leaf, allow_unused=True, retain_graph=retain)[0]
    return torch.zeros_like(leaf) if slope is None else slope


def usable(grad: Tensor, rng: RowRandom, several: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients [n, *shape] (`several`: [n, T, *shape]) an attack can walk along, which of them [n] or [n, T] were
    all zero, and which rows [n] held numbers that are not finite.

    NaN and infinite entries become 0, rows of zeros a random direction, save where each row holds several gradients.
    """
    size = flattened(grad, 1 + several).abs().amax(-1)
    blank, broken = size == 0, ~size.isfinite().reshape(len(grad), -1).all(1)
    if bool(broken.any()):
        grad = grad.nan_to_num(0.0, 0.0, 0.0)
    if not several and bool(blank.any()):
        rows = blank.nonzero().squeeze(1)
        grad = grad.index_copy(0, rows, RowRandom(rng.seeds[rows]).fork(0).normal(grad.shape[1:], grad.dtype))
    return grad, blank, broken
