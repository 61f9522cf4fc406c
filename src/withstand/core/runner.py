"""Runs any generator attack: owns model calls, gradients, budgets, counts, the best point and the early stop."""

import math
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Ask, Told
from withstand.core.found import Found
from withstand.core.oracle import TILE, Access, Answer, ModelRaised, Oracle, usable
from withstand.core.property import Argmax, Property
from withstand.core.registry import describe, name_of
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.threat import Threat

__all__ = ["TILE", "Access", "Attack", "Found", "ModelRaised", "Search", "run"]

LEAD = 1e-5
"""By how much, as a share of the outputs' size, the nearest violations violate: more than float32 rounds."""

Search = Generator[Ask, Told, None]


class Attack(Protocol):
    """The form of an attack (see `withstand.core.registry.attack`).

    Two more ClassVars are optional. `roams`: the attack's points may lie anywhere in the domain, not only in the
    threat. `minimal`: it roams, and looks for the nearest violation. So is a method `escalate(found)`, which names the
    attack to run on the rows left (or None) by what was found on all of them.
    """

    norms: ClassVar[tuple[str, ...]]
    access: ClassVar[Access]

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search: ...


def roams(attack: Attack) -> bool:
    """Whether an attack may ask about points outside the threat."""
    return is_minimal(attack) or getattr(attack, "roams", False)


def is_minimal(attack: Attack) -> bool:
    """Whether an attack looks for the nearest violation by itself."""
    return getattr(attack, "minimal", False)


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
    surrogate: Callable[[Tensor], Tensor] | None = None,
    draws: int = 1,
    closest: bool = False,
) -> Found:
    """Attack every row of x0 [N, *shape] with targets y [N] and return the best point found for each.

    model: a function from a batch to outputs. property: argmax unless given. ids: the samples' numbers in the data,
    which seed their random streams (0, 1, ... unless given). budget: no limit unless given; the clean pass is always
    made, after that no row is asked about that its queries or, at the pace of the asks before it, the time would
    overrun. access: `scores` answers gradients by an antithetic Gaussian estimate of `probes` pairs (Salimans et al.
    2017, arXiv:1703.03864; 20 pairs as Ilyas et al. 2018), probing only inside the domain. surrogate: a model the
    attack sees instead; its points count by what `model` says. draws: answers averaged of a random model. batch: rows
    evaluated together; it does not change results. closest: do not stop at a violation but let the attack go on to the
    nearest one; see `withstand.core.closest`, which serves every attack.

    Rows wrong at x0 are not attacked. In a box, x0 is but a point to start from: it is moved into the box, and a row
    violated there is refuted. Raises InputError when the attack does not work in the threat's norm or needs more than
    the access shows, and ModelRaised, which names the sample, when the model raises.
    """
    check_fit(attack, threat, access, surrogate)
    numbers = list(range(len(x0)) if ids is None else ids)
    if not len(numbers) == len(y) == len(x0):
        raise InputError(f"There are {len(x0)} inputs, {len(y)} targets and {len(numbers)} ids; give as many of each.")
    budget = budget or Budget()
    oracle = Oracle(model, property or Argmax(), threat, access, probes, surrogate, draws)
    found = _run(attack, oracle, _Samples(x0, y, numbers), budget, seed, batch, closest)
    further = _escalation(attack, found)
    fits = further is not None and threat.norm in further.norms and _offered(further, oracle.property)
    if further is None or not fits or budget.spent:
        return found
    rest = ~found.refuted & (found.clean_margin > 0)
    if budget.queries is not None:
        rest &= found.queries + draws <= budget.queries
    rows = rest.nonzero().squeeze(1)
    samples = _Samples(x0[rows], y[rows], [numbers[i] for i in rows.tolist()], found.queries[rows])
    if len(rows) == 0:
        return found
    later = _run(further, oracle.pick(rows, x0), samples, budget.share(1.0), seed, batch, closest)
    return found.then(rows, later)


@dataclass(frozen=True)
class _Samples:
    """Inputs x0 [N, *shape] with targets y [N], their numbers in the data, and the queries [N] they have cost (None:
    none)."""

    x0: Tensor
    y: Tensor
    ids: list[int]
    spent: Tensor | None = None


def _run(
    attack: Attack, oracle: Oracle, samples: _Samples, budget: Budget, seed: int, batch: int, closest: bool
) -> Found:
    """Drive an attack over the samples, batch by batch."""
    x0, y = samples.x0, samples.y
    seeds = row_seeds(seed, samples.ids, describe(attack)).to(x0.device)
    if attack.access is Access.LABELS:
        oracle = replace(oracle, access=Access.LABELS)
    if closest and oracle.access is not Access.LABELS:
        oracle = replace(oracle, lead=LEAD)
    parts: list[Found] = []
    for rows in torch.arange(len(x0), device=x0.device).split(batch):
        try:
            chunk = _Chunk(oracle.pick(rows, x0), x0[rows], y[rows], seeds[rows], budget, closest, roams(attack))
            chunk.spent = 0 if samples.spent is None else samples.spent[rows]
            parts.append(chunk.drive(attack))
        except ModelRaised as raised:
            at = int(rows[raised.row])
            raise ModelRaised(at, raised.error, samples.ids[at]) from raised
    return Found.join(parts)


def _offered(attack: Attack, property: Property) -> bool:
    """Whether a property has the loss that an attack walks down."""
    return getattr(attack, "loss", "margin") in (*property.losses, "smooth")


def _escalation(attack: Attack, found: Found) -> Attack | None:
    """The attack that an attack wants run on what it left, because of what it saw; None for most."""
    escalate = getattr(attack, "escalate", None)
    return None if escalate is None else escalate(found)


def check_fit(
    attack: Attack, threat: Threat, access: Access, surrogate: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Raise InputError where an attack does not work in the threat's norm, or needs more than the access shows."""
    if threat.norm not in attack.norms:
        able = ", ".join(attack.norms)
        raise InputError(f"The attack {name_of(attack)!r} works for {able}, not for {threat.norm}; choose another.")
    need = attack.access
    if surrogate is None and not access.shows(need):
        raise InputError(
            f"The attack {name_of(attack)!r} needs {need.value}s, and only labels are shown; choose one that needs "
            "labels only (`withstand ls attacks` says which)."
        )


class _Chunk:
    """The state of one batch of rows under attack. `goal` is what makes a point better than another: a lower margin,
    or with `closest` a smaller distance among violations."""

    def __init__(
        self, oracle: Oracle, x0: Tensor, y: Tensor, seeds: Tensor, budget: Budget, closest: bool, roams: bool
    ) -> None:
        threat = oracle.threat
        x0 = x0 if threat.anchored else threat.project(x0, x0)
        self.oracle, self.x0, self.y, self.seeds, self.budget = oracle, x0, y, seeds, budget
        self.closest, self.roams = closest, roams
        self.best = threat.start(x0).clone()
        exact = replace(oracle, lead=0.0)
        clean = exact.score(x0, self.best, y) if len(x0) else Answer(*(x0.new_zeros(n) for n in (0, 0, (0, 1))))
        self.clean, self.aims = clean.margin, clean.targets.shape[1]
        self.margin = self.clean.clone() if threat.anchored else self.clean.masked_fill(self.clean.isnan(), torch.inf)
        self.refuted = torch.zeros_like(self.clean, dtype=torch.bool) if threat.anchored else self.clean <= 0
        self.live = self.clean > 0 if threat.anchored else ~self.refuted
        self.distance = torch.full_like(self.clean, torch.inf, dtype=torch.float64)
        self.queries = torch.full_like(self.live, oracle.draws, dtype=torch.long)
        self.gradients, self.zeros, self.nonfinite = (torch.zeros_like(self.queries) for _ in range(3))
        self.stage = torch.full_like(self.queries, -1)
        self.spent: Tensor | int = 0
        """Queries each row cost before this attack."""
        self.asks = torch.zeros_like(self.queries)
        self.history: list[tuple[Tensor, Tensor]] = []
        """After every ask, how many each row has had, and its margin."""
        self.stopped: str | None = None

    def drive(self, attack: Attack) -> Found:
        """Send the attack's asks to the model until it ends, no row is left or the budget is spent."""
        search = attack.search(self.x0, self.oracle.threat, RowRandom(self.seeds))
        told, pace = None, 0.0
        while bool(self.live.any()):
            try:
                ask = next(search) if told is None else search.send(told)
            except StopIteration:
                break
            lead = tuple(ask.x.shape[1 : 1 + ask.x.dim() - self.best.dim()])
            cost = self.oracle.cost(ask.grad) * math.prod(lead)
            if self.budget.left <= pace * cost:
                self.stopped = "time"
                break
            rows = self._affordable(ask, cost)
            if not bool(self.live.any()):
                break
            began = time.monotonic()
            told = self._tell(ask, rows, lead)
            self.queries[rows] += cost
            self.asks[rows] += 1
            self.history.append((self.asks.clone(), self.margin.clone()))
            if len(rows):
                pace = (time.monotonic() - began) / cost
        search.close()
        return self._found()

    def _affordable(self, ask: Ask, cost: int) -> Tensor:
        """Numbers of the live rows the ask is about; those whose queries would not do leave the search."""
        asked = self.live if ask.rows is None else self.live & ask.rows
        if self.budget.queries is not None:
            broke = asked & (self.spent + self.queries + cost > self.budget.queries)
            if bool(broke.any()):
                self.stopped = "queries"
                self.live, asked = self.live & ~broke, asked & ~broke
        return asked.nonzero().squeeze(1)

    def _tell(self, ask: Ask, rows: Tensor, lead: tuple[int, ...]) -> Told:
        """Evaluate the ask at `rows`, keep what is best, and answer in full size."""
        if len(rows) == 0:
            return self._silence(ask, lead)
        points = math.prod(lead)
        flat = rows.repeat_interleave(points) if lead else rows
        every = len(rows) == len(self.x0) and not lead
        x0, y = (self.x0, self.y) if every else (self.x0[flat], self.y[flat])
        x = (ask.x if every else ask.x[rows]).detach().to(self.x0.dtype).reshape(len(flat), *self.best.shape[1:])
        oracle = self.oracle.pick(flat, self.x0)
        x = x if oracle.threat.rendered else oracle.threat.deploy(x0, x)
        rng = RowRandom(self.seeds[rows]).spread(points).fork(self.asks[flat] + 1)
        answer, margin = oracle.answer(x0, x, y, _part(ask, rows, lead), rng)
        broken = ~margin.isfinite()
        grad = answer.grad
        if grad is not None:
            grad, blank, mad = usable(grad, rng, several=answer.loss.dim() == 2)
            broken |= mad
            self.gradients[rows] += points * answer.loss[0].numel()
            self.zeros[rows] += blank.reshape(len(rows), -1).sum(1)
        self.nonfinite[rows] += broken.reshape(len(rows), -1).sum(1)
        self._keep_best(oracle, x0, x, margin, rows, ask.stage)
        labels = self.oracle.access is Access.LABELS and self.oracle.surrogate is None
        margin, loss = (answer.margin, answer.loss) if not labels else (_sign(answer.margin),) * 2
        return Told(
            self._full(margin, rows, lead, torch.inf),
            self._full(loss, rows, lead, torch.inf),
            None if grad is None else self._full(grad, rows, lead, 0.0),
            None if labels else self._full(answer.targets, rows, lead, torch.inf),
            self.live,
        )

    def _full(self, part: Tensor, rows: Tensor, lead: tuple[int, ...], fill: float) -> Tensor:
        part = part.reshape(len(rows), *lead, *part.shape[1:])
        if len(rows) == len(self.x0):
            return part
        return part.new_full((len(self.x0), *part.shape[1:]), fill).index_copy_(0, rows, part)

    def _silence(self, ask: Ask, lead: tuple[int, ...]) -> Told:
        """The answer to an ask about rows of which none is left."""
        margin = self.margin.new_full((len(self.x0), *lead), torch.inf)
        every = ask.target is not None and ask.target.dim() == 2 and not lead
        loss = margin.new_full(ask.target.shape, torch.inf) if every and ask.target is not None else margin
        grad = self.x0.new_zeros(*loss.shape, *self.best.shape[1:]) if ask.grad else None
        return Told(margin, loss, grad, margin.new_full((*margin.shape, self.aims), torch.inf), self.live)

    def _keep_best(self, oracle: Oracle, x0: Tensor, x: Tensor, margin: Tensor, rows: Tensor, stage: int) -> None:
        """Take over the points x that are better than a row's best so far, and let refuted rows leave."""
        points = len(x) // len(rows)
        hit = margin <= 0
        better = hit if self.closest else margin < self.margin[rows].repeat_interleave(points)
        doubtful = (better if self.roams else better & hit).nonzero().squeeze(1)
        if len(doubtful):
            threat = oracle.threat.pick(doubtful, x0)
            better = better.index_copy(0, doubtful, threat.contains(x0[doubtful], x[doubtful]))
        if not bool(better.any()):
            return
        worth = margin.double()
        if self.closest:
            worth = oracle.threat.distance(x0, x)
            better &= worth < self.distance[rows].repeat_interleave(points)
        worth, column = worth.masked_fill(~better, torch.inf).reshape(len(rows), points).min(1)
        part = (worth < torch.inf).nonzero().squeeze(1)
        chosen, index = rows[part], part * points + column[part]
        self.margin[chosen], self.best[chosen], self.stage[chosen] = margin[index], x[index], stage
        self.refuted[chosen] |= hit[index]
        if self.closest:
            self.distance[chosen] = worth[part]
        else:
            self.live = self.live & ~self.refuted

    def _found(self) -> Found:
        threat = self.oracle.threat
        if len(self.x0):
            strayed = ~threat.contains(self.x0, self.best) & ~self.refuted
            # a best point outside the threat is no evidence: fall back to the clean input
            self.best[strayed], self.margin[strayed] = threat.start(self.x0)[strayed], self.clean[strayed]
            far = threat.distance(self.x0, self.best)
            self.distance = torch.where(self.refuted, far, torch.inf)
        return Found(
            x=self.best,
            margin=self.margin,
            clean_margin=self.clean,
            refuted=self.refuted,
            distance=self.distance,
            queries=self.queries,
            gradients=self.gradients,
            zero_gradients=self.zeros,
            nonfinite=self.nonfinite,
            late=self._late(),
            stage=self.stage,
            stopped=self.stopped,
        )

    def _late(self) -> Tensor:
        """See `Found.late`. Each row's own asks count, since attacks may leave rows out of an ask."""
        if len(self.history) < 10:
            return torch.zeros_like(self.margin)
        asks, margins = (torch.stack(parts) for parts in zip(*self.history, strict=True))
        place = (asks <= self.asks * 9 // 10).sum(0, keepdim=True).clamp(max=len(asks) - 1)
        fall = margins.gather(0, place)[0] - self.margin
        late = fall / (self.clean - self.margin).clamp(min=1e-12)
        return late.masked_fill(self.refuted | (self.asks < 10), 0.0)


def _sign(margin: Tensor) -> Tensor:
    """-1 where the property is violated, else 1, also where the margin is no number."""
    return torch.where(margin <= 0, -1.0, 1.0).to(margin)


def _part(ask: Ask, rows: Tensor, lead: tuple[int, ...]) -> Ask:
    """What the ask says of `rows`, a row a point."""
    target, weights = ask.target, ask.weights
    if target is not None:
        target = target[rows]
        if lead:
            target = target.reshape(len(rows), -1).expand(-1, math.prod(lead)).flatten()
    if weights is not None:
        weights = weights[rows]
        weights = weights.flatten(0, 1) if weights.dim() == 3 else weights.repeat_interleave(math.prod(lead), 0)
    return replace(ask, target=target, weights=weights)
