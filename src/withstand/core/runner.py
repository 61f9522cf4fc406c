"""Runs any generator attack: owns model calls, gradients, budgets, counts, the best point and the early stop."""

import math
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Ask, Loss, Told
from withstand.core.property import Argmax, Property
from withstand.core.registry import describe, name_of
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.threat import Threat, rowwise

Search = Generator[Ask, Told, None]

TILE = 16
"""Model calls are filled up to a multiple of this many rows, because matrix kernels round leftover rows differently:
without it a row's result would depend on how many others are in the batch or still alive."""


class Access(StrEnum):
    """What the model shows: its gradients, or its scores only (gradients are then estimated from queries)."""

    GRADIENT = "gradient"
    SCORES = "scores"


class Attack(Protocol):
    """The form of an attack (see `withstand.core.registry.attack`)."""

    norms: ClassVar[tuple[str, ...]]
    access: ClassVar[Access]

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search: ...


@dataclass(frozen=True)
class Found:
    """What an attack found, per row [B]. Rows refuted hold a point of the threat that the model gets wrong.

    x: the best point (x0 itself where nothing was better). margin, clean_margin: at x and at x0. queries: forward
    passes, the clean one included; gradients: backward passes. zero_gradients: answers whose gradient was exactly zero.
    nonfinite: answers that held a NaN or an infinity. late: share of the whole fall of the margin that came in the last
    tenth of the asks (0 if refuted). stopped: why the search ended before its own end ("time", "queries"), or None.
    """

    x: Tensor
    margin: Tensor
    clean_margin: Tensor
    refuted: Tensor
    queries: Tensor
    gradients: Tensor
    zero_gradients: Tensor
    nonfinite: Tensor
    late: Tensor
    stopped: str | None = None

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Rows of several results in a row."""
        names = [name for name in cls.__dataclass_fields__ if name != "stopped"]
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(**joined, stopped=next((part.stopped for part in parts if part.stopped), None))


def run(
    attack: Attack,
    model: Callable[[Tensor], Tensor],
    x0: Tensor,
    y: Tensor,
    threat: Threat,
    property: Property | None = None,
    *,
    ids: Iterable[int] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    access: Access = Access.GRADIENT,
    batch: int = 256,
    probes: int = 20,
) -> Found:
    """Attack every row of x0 [N, *shape] with targets y [N] and return the best point found for each.

    model: a function from a batch to outputs. property: argmax unless given. ids: the samples' numbers in the data,
    which seed their random streams (0, 1, ... unless given). budget: no limit unless given; the clean pass is always
    made, after that no ask begins that its queries or, at the pace of the asks before it, its time would overrun.
    access: `scores` answers gradients by an antithetic Gaussian estimate of `probes` pairs (Salimans et al. 2017,
    arXiv:1703.03864; 20 pairs as Ilyas et al. 2018), probing only inside the domain. batch: rows evaluated together;
    it does not change results.

    Rows wrong at x0 are not attacked. In a box, x0 is but a point to start from: it is moved into the box, and a row
    violated there is refuted. Raises InputError when the attack does not work in the threat's norm.
    """
    if threat.norm not in attack.norms:
        able = ", ".join(attack.norms)
        raise InputError(f"The attack {name_of(attack)!r} works for {able}, not for {threat.norm}; choose another.")
    numbers = list(range(len(x0)) if ids is None else ids)
    if not len(numbers) == len(y) == len(x0):
        raise InputError(f"There are {len(x0)} inputs, {len(y)} targets and {len(numbers)} ids; give as many of each.")
    budget = budget or Budget()
    seeds = row_seeds(seed, numbers, describe(attack)).to(x0.device)
    parts = []
    for rows in torch.arange(len(x0), device=x0.device).split(batch):
        oracle = _Oracle(model, property or Argmax(), threat.pick(rows, x0), access, probes)
        parts.append(_Chunk(oracle, x0[rows], y[rows], seeds[rows], budget).drive(attack))
    return Found.join(parts)


@dataclass(frozen=True)
class _Oracle:
    """The model as an attack may see it."""

    model: Callable[[Tensor], Tensor]
    property: Property
    threat: Threat
    access: Access
    probes: int

    def cost(self, grad: bool) -> int:
        """Forward rows one ask costs a sample."""
        return 1 + 2 * self.probes * (grad and self.access is Access.SCORES)

    def answer(self, x: Tensor, y: Tensor, ask: Ask, rng: RowRandom) -> tuple[Tensor, Tensor, Tensor | None]:
        """Margin, loss and, where asked for, the gradient of the loss at x."""
        if ask.grad and self.access is Access.GRADIENT:
            return self._differentiate(x, y, ask.loss)
        margin, loss = self.score(x, y, ask.loss)
        return margin, loss, self._estimate(x, y, ask.loss, rng) if ask.grad else None

    def score(self, x: Tensor, y: Tensor, loss: Loss = "margin") -> tuple[Tensor, Tensor]:
        """Margin and loss at x."""
        with torch.no_grad():
            outputs = self._outputs(x)
            margin = self.property.margin(outputs, y)
            return margin, margin if loss == "margin" else self.property.loss(loss, outputs, y)

    def _outputs(self, x: Tensor) -> Tensor:
        missing = -len(x) % TILE
        if not missing:
            return self.model(x)
        return self.model(torch.cat([x, x[-1:].detach().expand(missing, *x.shape[1:])]))[: len(x)]

    def _differentiate(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            outputs = self._outputs(x)
            value = self.property.loss(loss, outputs, y)
            slope = torch.autograd.grad(value.sum(), x, allow_unused=True)[0] if value.requires_grad else None
        value = value.detach()
        margin = value if loss == "margin" else self.property.margin(outputs.detach(), y)
        return margin, value, torch.zeros_like(x) if slope is None else slope

    def _estimate(self, x: Tensor, y: Tensor, loss: Loss, rng: RowRandom) -> Tensor:
        """Probes stop at the edges of the domain, which halves the estimate there but keeps its sign. A quantised
        input is probed on its grid."""
        low, high = self.threat.domain
        levels = self.threat.levels
        width = 1 / levels if levels else 1e-3 * (high - low if math.isfinite(high - low) else 1.0)
        slope = torch.zeros_like(x)
        for _ in range(self.probes):
            probe = rng.normal(x.shape[1:], x.dtype)
            if levels:
                probe = probe.round()
            up, down = ((x + sign * width * probe).clamp(low, high) for sign in (1, -1))
            rise = self.score(up, y, loss)[1] - self.score(down, y, loss)[1]
            slope += probe * rowwise(rise / (2 * width * self.probes), x)
        return slope


class _Chunk:
    """The state of one batch of rows under attack. `index` holds the live rows, None while that is all of them."""

    def __init__(self, oracle: _Oracle, x0: Tensor, y: Tensor, seeds: Tensor, budget: Budget) -> None:
        anchored = oracle.threat.anchored
        x0 = x0 if anchored else oracle.threat.project(x0, x0)
        self.oracle, self.x0, self.y, self.seeds, self.budget = oracle, x0, y, seeds, budget
        self.clean = oracle.score(x0, y)[0] if len(x0) else x0.new_zeros(0)
        self.best = x0.clone()
        self.margin = self.clean.clone() if anchored else self.clean.masked_fill(self.clean.isnan(), torch.inf)
        self.last_margin = self.last_loss = self.clean
        self.refuted = torch.zeros_like(self.clean, dtype=torch.bool) if anchored else self.clean <= 0
        self.live = self.clean > 0 if anchored else ~self.refuted
        self.index: Tensor | None = None if bool(self.live.all()) else self.live.nonzero().squeeze(1)
        self.queries = torch.ones_like(self.live, dtype=torch.long)
        self.gradients, self.zeros, self.nonfinite = (torch.zeros_like(self.queries) for _ in range(3))
        self.spent = 1
        self.history: list[Tensor] = []

    def drive(self, attack: Attack) -> Found:
        """Send the attack's asks to the model until it ends, every row is refuted or the budget is spent."""
        search = attack.search(self.x0, self.oracle.threat, RowRandom(self.seeds))
        stopped, told, pace = None, None, 0.0
        while bool(self.live.any()):
            try:
                ask = next(search) if told is None else search.send(told)
            except StopIteration:
                break
            cost = self.oracle.cost(ask.grad)
            if self.budget.left <= pace * cost:
                stopped = "time"
                break
            if self.budget.queries is not None and self.spent + cost > self.budget.queries:
                stopped = "queries"
                break
            began = time.monotonic()
            told = self._tell(ask, cost)
            pace = (time.monotonic() - began) / cost
        search.close()
        return self._found(stopped)

    def _pick(self, full: Tensor) -> Tensor:
        return full if self.index is None else full[self.index]

    def _put(self, full: Tensor, part: Tensor) -> Tensor:
        return part if self.index is None else full.index_copy(0, self.index, part)

    def _tell(self, ask: Ask, cost: int) -> Told:
        x = self.oracle.threat.deploy(self._pick(self.x0), self._pick(ask.x.detach()).to(self.x0.dtype))
        rng = RowRandom(self._pick(self.seeds)).fork(len(self.history) + 1)
        margin, loss, grad = self.oracle.answer(x, self._pick(self.y), ask, rng)
        self.spent += cost
        self.queries += self.live * cost
        broken = ~margin.isfinite()
        if grad is not None:
            grad, blank, mad = _usable(grad, rng)
            broken |= mad
            self.gradients += self.live
            self.zeros += self._put(torch.zeros_like(self.live), blank)
        self.nonfinite += self._put(torch.zeros_like(self.live), broken)
        self.last_margin = self._put(self.last_margin, margin)
        self.last_loss = self._put(self.last_loss, loss)
        full_grad = None if grad is None else self._put(torch.zeros_like(self.x0), grad)
        self._keep_best(x, margin)
        return Told(self.last_margin, self.last_loss, full_grad, self.live)

    def _keep_best(self, x: Tensor, margin: Tensor) -> None:
        better = margin < self._pick(self.margin)
        hit = margin <= 0
        if bool(hit.any()):
            rows = self._pick(torch.arange(len(self.x0), device=x.device))[hit]
            inside = self.oracle.threat.pick(rows, self.x0).contains(self.x0[rows], x[hit])
            better[hit] &= inside
            hit[hit.clone()] = inside
        part = better.nonzero().squeeze(1)
        if len(part):
            rows = part if self.index is None else self.index[part]
            self.margin[rows] = margin[part]
            self.best[rows] = x[part]
        self.history.append(self.margin.clone())
        if bool(hit.any()):
            refuted = self._put(torch.zeros_like(self.live), hit)
            self.refuted |= refuted
            self.live = self.live & ~refuted
            self.index = self.live.nonzero().squeeze(1)

    def _found(self, stopped: str | None) -> Found:
        strayed = ~self.oracle.threat.contains(self.x0, self.best) & ~self.refuted
        if bool(strayed.any()):  # a best point outside the threat is no evidence: fall back to the clean input
            self.best[strayed], self.margin[strayed] = self.x0[strayed], self.clean[strayed]
        late = torch.zeros_like(self.margin)
        if len(self.history) >= 10:
            earlier = self.history[int(len(self.history) * 0.9)]
            late = (earlier - self.margin) / (self.clean - self.margin).clamp(min=1e-12)
            late = late.masked_fill(self.refuted, 0.0)
        return Found(
            x=self.best,
            margin=self.margin,
            clean_margin=self.clean,
            refuted=self.refuted,
            queries=self.queries,
            gradients=self.gradients,
            zero_gradients=self.zeros,
            nonfinite=self.nonfinite,
            late=late,
            stopped=stopped,
        )


def _usable(grad: Tensor, rng: RowRandom) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient [B, *shape] an attack can walk along, and which rows [B] of it were all zero, and not finite.

    NaN and infinite entries become 0, rows of zeros a random direction.
    """
    size = grad.flatten(1).abs().amax(1)
    blank, broken = size == 0, ~size.isfinite()
    if bool(broken.any()):
        grad = grad.nan_to_num(0.0, 0.0, 0.0)
    if bool(blank.any()):
        rows = blank.nonzero().squeeze(1)
        grad = grad.index_copy(0, rows, RowRandom(rng.seeds[rows]).fork(0).normal(grad.shape[1:], grad.dtype))
    return grad, blank, broken
