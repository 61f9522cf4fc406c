"""One batch of rows under attack: asks are answered, counted and paid for, and the best point of every row is kept."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from withstand.core.attack import Attack
from withstand.core.budget import Budget
from withstand.core.evidence import Ask, Told
from withstand.core.found import Found
from withstand.core.oracle import Access, Answer, Oracle, usable
from withstand.core.rng import RowRandom


class Chunk:
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
            began = self.budget.now()
            told = self._tell(ask, rows, lead)
            self.queries[rows] += cost
            self.asks[rows] += 1
            self.history.append((self.asks.clone(), self.margin.clone()))
            if len(rows):
                pace = (self.budget.now() - began) / cost
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
        if self.closest:
            worth = torch.full_like(margin, torch.inf, dtype=torch.float64)
            struck = hit.nonzero().squeeze(1)
            if len(struck):
                worth[struck] = oracle.threat.pick(struck, x0).distance(x0[struck], x[struck])
            better = worth < self.distance[rows].repeat_interleave(points)
        else:
            worth = margin.double()
            better = margin < self.margin[rows].repeat_interleave(points)
        doubtful = (better if self.roams else better & hit).nonzero().squeeze(1)
        if len(doubtful):
            threat = oracle.threat.pick(doubtful, x0)
            better = better.index_copy(0, doubtful, threat.contains(x0[doubtful], x[doubtful]))
        if not bool(better.any()):
            return
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
