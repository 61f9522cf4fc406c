"""Runs any generator attack: owns model calls, gradients, budgets, counts, the best point and the early stop."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
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
    passes; gradients: backward passes. zero_gradients: answers whose gradient was exactly zero. nonfinite: answers
    that held a NaN or an infinity. late: share of the whole fall of the margin that came in the last tenth of the asks.
    stopped: why the search ended before its own end ("time", "queries"), or None.
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
    batch: int = 512,
    probes: int = 20,
) -> Found:
    """Attack every row of x0 [N, *shape] with targets y [N] and return the best point found for each.

    model: a function from a batch to outputs. property: argmax unless given. ids: the samples' numbers in the data,
    which seed their random streams (0, 1, ... unless given). budget: no limit unless given. access: `scores` answers
    gradients by an antithetic Gaussian estimate of `probes` pairs (Salimans et al. 2017, arXiv:1703.03864; 20 pairs as
    Ilyas et al. 2018). batch: rows evaluated together; it does not change results.

    Rows wrong at x0 are not attacked. Raises InputError when the attack does not work in the threat's norm.
    """
    if threat.norm not in attack.norms:
        able = ", ".join(attack.norms)
        raise InputError(f"The attack {name_of(attack)!r} works for {able}, not for {threat.norm}; choose another.")
    budget = budget or Budget()
    seeds = row_seeds(seed, range(len(x0)) if ids is None else ids, describe(attack)).to(x0.device)
    oracle = _Oracle(model, property or Argmax(), threat, access, probes)
    parts = []
    for start in range(0, max(len(x0), 1), batch):
        rows = slice(start, start + batch)
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

    def answer(
        self, x: Tensor, y: Tensor, loss: Loss, grad: bool, rng: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Margin, loss and gradient of the loss at x."""
        if grad and self.access is Access.GRADIENT:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                outputs = self.model(x)
                value = self.property.loss(loss, outputs, y)
                slope = torch.autograd.grad(value.sum(), x)[0]
            value = value.detach()
            margin = value if loss == "margin" else self.property.margin(outputs.detach(), y)
            return margin, value, slope
        margin, value = self._score(x, y, loss)
        return margin, value, self._estimate(x, y, loss, rng) if grad else None

    def _score(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            outputs = self.model(x)
            margin = self.property.margin(outputs, y)
            return margin, margin if loss == "margin" else self.property.loss(loss, outputs, y)

    def _estimate(self, x: Tensor, y: Tensor, loss: Loss, rng: Callable[[], Tensor]) -> Tensor:
        low, high = self.threat.domain
        width = 1e-3 * (high - low if high - low < float("inf") else 1.0)
        slope = torch.zeros_like(x)
        for _ in range(self.probes):
            probe = rng()
            rise = self._score(x + width * probe, y, loss)[1] - self._score(x - width * probe, y, loss)[1]
            slope += probe * rowwise(rise / (2 * width * self.probes), x)
        return slope


@dataclass
class _Chunk:
    """The state of one batch of rows under attack."""

    oracle: _Oracle
    x0: Tensor
    y: Tensor
    seeds: Tensor
    budget: Budget
    _history: list[Tensor] = field(default_factory=list)

    def drive(self, attack: Attack) -> Found:
        """Send the attack's asks to the model until it ends, every row is refuted or the budget is spent."""
        self._start()
        search = attack.search(self.x0, self.oracle.threat, RowRandom(self.seeds))
        stopped = None
        told = None
        while bool(self.live.any()):
            try:
                ask = next(search) if told is None else search.send(told)
            except StopIteration:
                break
            if self.budget.spent:
                stopped = "time"
                break
            if not self._afford(ask):
                stopped = "queries"
                break
            told = self._tell(ask)
        search.close()
        return self._found(stopped)

    def _start(self) -> None:
        rows, device = len(self.x0), self.x0.device
        self.best = self.x0.clone()
        self.clean, _ = self.oracle._score(self.x0, self.y, "margin") if rows else (self.x0.new_zeros(0), None)
        self.margin = self.clean.clone()
        self.live = self.clean > 0
        self.index: Tensor | None = None if bool(self.live.all()) else self.live.nonzero().squeeze(1)
        self.last_margin, self.last_loss = self.clean.clone(), self.clean.clone()
        self.queries = torch.ones(rows, dtype=torch.long, device=device)
        self.gradients, self.zeros, self.nonfinite = (torch.zeros_like(self.queries) for _ in range(3))
        self.refuted = torch.zeros(rows, dtype=torch.bool, device=device)
        self.estimator = RowRandom(self.seeds + 1)

    def _afford(self, ask: Ask) -> bool:
        """Retire the rows whose query budget does not cover this ask; False when none is left."""
        if self.budget.queries is not None:
            poor = self.live & (self.queries + self.oracle.cost(ask.grad) > self.budget.queries)
            if bool(poor.any()):
                self._retire(poor)
        return bool(self.live.any())

    def _retire(self, rows: Tensor) -> None:
        self.live = self.live & ~rows
        self.index = self.live.nonzero().squeeze(1)

    def _pick(self, full: Tensor) -> Tensor:
        return full if self.index is None else full[self.index]

    def _put(self, full: Tensor, part: Tensor) -> Tensor:
        return part if self.index is None else full.index_copy(0, self.index, part)

    def _tell(self, ask: Ask) -> Told:
        threat = self.oracle.threat
        x = threat.deploy(self._pick(self.x0), self._pick(ask.x).to(self.x0.dtype))
        margin, loss, grad = self.oracle.answer(
            x, self._pick(self.y), ask.loss, ask.grad, lambda: self._pick(self.estimator.normal(self.x0.shape[1:]))
        )
        self.queries[self.live] += self.oracle.cost(ask.grad)
        if grad is not None:
            self._note_gradient(grad)
        self.last_margin = self._put(self.last_margin, margin)
        self.last_loss = self._put(self.last_loss, loss)
        full_grad = None if grad is None else self._put(torch.zeros_like(self.x0), grad)
        self._keep_best(x, margin)
        return Told(self.last_margin, self.last_loss, full_grad, self.live)

    def _note_gradient(self, grad: Tensor) -> None:
        size = grad.flatten(1).abs().amax(1)
        self.gradients[self.live] += 1
        self.zeros[self.live] += size == 0
        broken = ~size.isfinite()
        self.nonfinite[self.live] += broken
        if bool(broken.any()):
            grad.nan_to_num_(0.0, 0.0, 0.0)

    def _keep_best(self, x: Tensor, margin: Tensor) -> None:
        before = self._pick(self.margin)
        better = margin < before
        hit = margin <= 0
        if bool(hit.any()):
            inside = self.oracle.threat.contains(self._pick(self.x0)[hit], x[hit])
            better[hit] &= inside
            hit[hit.clone()] = inside
        rows = better.nonzero().squeeze(1) if self.index is None else self.index[better]
        self.margin[rows] = margin[better]
        self.best[rows] = x[better].detach()
        self._history.append(self.margin.clone())
        if bool(hit.any()):
            refuted = torch.zeros_like(self.live)
            refuted[hit.nonzero().squeeze(1) if self.index is None else self.index[hit]] = True
            self.refuted |= refuted
            self._retire(refuted)

    def _found(self, stopped: str | None) -> Found:
        strayed = ~self.oracle.threat.contains(self.x0, self.best) & ~self.refuted & (self.clean > 0)
        if bool(strayed.any()):  # a best point outside the threat is no evidence: fall back to the clean input
            self.best[strayed], self.margin[strayed] = self.x0[strayed], self.clean[strayed]
        late = torch.zeros_like(self.margin)
        if len(self._history) >= 10:
            earlier = self._history[int(len(self._history) * 0.9)]
            late = (earlier - self.margin) / (self.clean - self.margin).clamp(min=1e-12)
        return Found(
            self.best,
            self.margin,
            self.clean,
            self.refuted,
            self.queries,
            self.gradients,
            self.zeros,
            self.nonfinite,
            late,
            stopped,
        )
