"""Attacks on one block of samples: each sees every sample that is right when clean, the judge weighs what it finds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from withstand.auditing.block import doubts
from withstand.auditing.question import Question
from withstand.auditing.settled import NOT_ATTACKED
from withstand.auditing.witnesses import make_witness
from withstand.core.budget import Budget
from withstand.core.closest import closest
from withstand.core.errors import InputError
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status, Weighed
from withstand.core.oracle import Access, ModelRaised, call
from withstand.core.records import AttackRecord, SampleRecord
from withstand.core.registry import name_of
from withstand.core.runner import Attack, Found, run
from withstand.core.threat import Threat
from withstand.core.universal import Fitted
from withstand.io.witness import Witness

FRESH = 21
"""Fresh answers of a random model, most of which must violate the property before the judge calls a point a witness."""


@dataclass(frozen=True)
class Means:
    """What attacks may see and spend.

    surrogate: a model they see in place of the attacked one. draws: answers of a random model that are averaged.
    queries: rows of the model a sample that each attack may cost, whatever asks. before: those of them that were asked
    before any attack, while the model was loaded and looked at. nearest: they look for the nearest violation. radii: of
    a curve, beside the threat's own.
    """

    access: Access = Access.GRADIENT
    surrogate: Callable[[Tensor], Tensor] | None = None
    draws: int = 1
    queries: int | None = None
    before: int = 0
    nearest: bool = False
    radii: tuple[float, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Struck:
    """A witness: the attack's text, the model's answer, margin and distance, and its file."""

    text: str
    answer: float
    margin: float
    distance: float
    file: str

    def rank(self, nearest: bool) -> float:
        """What makes it worth showing before others: a small distance, or a low margin."""
        return self.distance if nearest else self.margin


@dataclass
class Settled:
    """The records of a block, its witnesses by file name, the wall seconds of each attack, what the model raised on
    the sample after them, and the worst input found of each refuted sample, by its number."""

    records: list[SampleRecord] = field(default_factory=list)
    witnesses: dict[str, Witness] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    raised: ModelRaised | None = None
    found: dict[int, Tensor] = field(default_factory=dict)


Attacks = Mapping[str, Attack]
"""Attacks by the text that names them."""

Pace = Callable[[str], float | None]
"""Seconds that an attack may take on the block at hand."""


def besiege(
    question: Question, means: Means, attacks: Attacks, rows: Sequence[int], pace: Pace, *, witnesses: bool
) -> Settled:
    """Settle the samples in some rows of the data. Where the model raises, those before the sample it raises on.

    witnesses: they are wanted, not only the records.
    """
    raised = None
    while rows:
        try:
            siege = Siege(question, means, rows, witnesses)
            for text, attack in attacks.items():
                siege.attack(text, attack, pace(text))
            siege.walk(attacks, pace)
        except ModelRaised as error:
            name = question.data.ids[rows[error.row]]
            raised, rows = ModelRaised(error.row, error.error, name), rows[: error.row]
            continue
        return Settled(siege.records(), siege.witnesses, siege.spent, raised, siege.found)
    return Settled(raised=raised)


class Siege:
    """Samples in rows of a question's data under attack, and what is known of each.

    reached: the smallest radius at which each is refuted (nan: none). tried: the radii at which an attack looked. late:
    the attacks that time kept from their end, and why.
    """

    def __init__(self, question: Question, means: Means, rows: Sequence[int], witnesses: bool) -> None:
        self.question, self.means, self.wanted = question, means, witnesses
        self.x0, self.y = question.x[list(rows)], question.y[list(rows)]
        self.ids = [question.data.ids[row] for row in rows]
        draws = 1 if means.draws == 1 else max(FRESH, means.draws)
        ask, threat = partial(call, question.model), question.threat
        self.judge = Judge(ask, question.replay, self.x0, self.y, threat, question.property, draws)
        self.right = self.judge.open.nonzero().squeeze(1)
        self.distance = torch.full((len(self.ids),), torch.inf, dtype=torch.float64)
        self.reached = torch.full_like(self.distance, torch.nan)
        self.tried: list[set[float]] = [set() for _ in self.ids]
        self.late: list[dict[str, str]] = [{} for _ in self.ids]
        self.point = threat.start(self.x0).clone()
        self.worst: list[Struck | None] = [None] * len(self.ids)
        self.each: list[dict[str, AttackRecord]] = [{} for _ in self.ids]
        self.beyond = torch.zeros(2, len(self.ids), dtype=torch.long)
        """Queries and gradients spent at other radii."""
        self.flags: list[set[str]] = [set() for _ in self.ids]
        self.witnesses: dict[str, Witness] = {}
        self.found: dict[int, Tensor] = {}
        self.spent: dict[str, float] = {}
        self.digest = question.model.digest() if witnesses else ""

    def allowance(self, attack: Attack, own: bool) -> int | None:
        """The queries a sample that are left to an attack, at the threat's own radius or another, by those of the judge
        and of what came before. Raises InputError where these alone are more than may be spent."""
        if self.means.queries is None:
            return None
        weighed = self.judge.draws * (1 if self.question.replay is not None else 2)
        reserved = self.means.before + self.judge.draws + weighed if own else 2 * weighed
        reserved += 2 * (own and isinstance(attack, Fitted))  # its fooling rate
        least = reserved + self.means.draws + 1
        if self.means.queries < least:
            raise InputError(
                f"{self.means.queries} queries a sample leave none to {name_of(attack)!r}: the clean answers and the "
                f"judge ask {reserved + self.means.draws} themselves; give at least {least}."
            )
        return self.means.queries - reserved

    def attack(self, text: str, attack: Attack, seconds: float | None) -> None:
        """Let an attack work on every sample that is right when clean, for so many seconds at most (None: no end)."""
        rows, threat, nearest = self.right, self.question.threat, self.means.nearest
        if len(rows) == 0:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        found = self._search(text, attack, rows, threat, seconds, nearest)
        hit = found.refuted.nonzero().squeeze(1)
        judged = self._weigh(rows[hit], found.x[hit], text, threat.at(torch.inf) if nearest else threat)
        weighed = torch.zeros_like(found.queries)
        weighed[hit] = self._cost(judged)
        shares = [
            (after - before) / len(rows) for after, before in ((time.perf_counter(), wall), (time.process_time(), cpu))
        ]
        looked = found.looked(self.means.draws).tolist()
        for place, (i, doubt) in enumerate(zip(rows.tolist(), doubts(attack, found), strict=True)):
            self.each[i][text] = AttackRecord(
                margin=float(found.margin[place]),
                queries=int(found.queries[place] + weighed[place]),
                gradients=int(found.gradients[place]),
                seconds=shares[0],
                cpu_seconds=shares[1],
                stopped=found.stopped,
                attacked=looked[place],
            )
            self.flags[i] = (self.flags[i] - {"still-falling"}) | doubt
        self._keep(text, rows[hit], judged)

    def _keep(self, text: str, rows: Tensor, judged: Weighed) -> None:
        """Take over what the judge lets pass."""
        struck = judged.violated.nonzero().squeeze(1)
        rows, x, point, outputs = rows[struck], judged.x[struck], judged.point[struck], judged.outputs[struck]
        threat = self.question.threat
        answers, margins = self.question.property.answer(outputs).tolist(), judged.margin[struck].tolist()
        distances = threat.distance(self.x0[rows], point).double().cpu()
        within = (distances <= threat.reach).tolist()
        for k, (i, distance) in enumerate(zip(rows.tolist(), distances.tolist(), strict=True)):
            record = self.each[i][text]
            record.distance, record.refuted, record.adversarial = distance, within[k], answers[k]
            if distance < self.distance[i]:
                self.distance[i], self.point[i] = distance, point[k]
            if not within[k]:
                continue
            hit = Struck(
                text, answers[k], margins[k], distance, f"witnesses/{self.ids[i]}-{len(self.each[i])}-{_name(text)}.npz"
            )
            if self.wanted:
                record.witness = hit.file
                self.witnesses[hit.file] = self._witness(i, x[k], point[k], hit)
            best = self.worst[i]
            if best is None or hit.rank(self.means.nearest) < best.rank(self.means.nearest):
                self.worst[i], self.found[self.ids[i]] = hit, x[k].detach().cpu().clone()

    def _witness(self, row: int, x: Tensor, point: Tensor, hit: "Struck") -> Witness:
        threat, property = self.question.threat, self.question.property
        move, sample = point if threat.rendered else None, (self.ids[row], self.x0[row], self.y[row])
        answer, margin, method, model = hit.answer, hit.margin, hit.text, self.digest
        return make_witness(threat, property, sample, x, move, answer=answer, margin=margin, method=method, model=model)

    def walk(self, attacks: Attacks, pace: Pace) -> None:
        """Find the smallest radius that refutes each sample: what is refuted leaves for all larger ones, and a witness
        is tried at the next smaller one, drawn towards the clean input, before any search."""
        threat, own = self.question.threat, self.question.threat.radius
        radii = sorted({threat.at(radius).radius for radius in self.means.radii})
        reach = {radius: threat.at(radius).reach for radius in {*radii, own}}
        for i in self.right.tolist():
            near = [radius for radius in reach if self.distance[i] <= reach[radius]]
            self.reached[i] = min(near, default=torch.nan)
        if self.means.nearest:
            return
        right = torch.zeros_like(self.reached, dtype=torch.bool)
        right[self.right.cpu()] = True
        for radius in (r for r in radii if r > own):
            self._try(attacks, radius, self.reached.isnan() & right, pace)
        before = own
        for radius in (r for r in reversed(radii) if r < own):
            self._try(attacks, radius, self.reached == before, pace)
            before = radius

    def _try(self, attacks: Attacks, radius: float, wanted: Tensor, pace: Pace) -> None:
        """Look for witnesses at another radius, in rows [B] that are wanted."""
        threat = self.question.threat.at(radius)
        known = (wanted & self.distance.isfinite()).nonzero().squeeze(1).to(self.x0.device)
        if len(known):
            drawn = threat.project(self.x0[known], self.point[known])
            judged = self._weigh(known, drawn, "", threat)
            self._reach(known, judged, radius)
            self.beyond[0, known.cpu()] += self._cost(judged).cpu()
        for text, attack in attacks.items():
            rows = (wanted & ~(self.reached <= radius)).nonzero().squeeze(1).to(self.x0.device)
            if len(rows) == 0:
                return
            found = self._search(text, attack, rows, threat, pace(text), nearest=False)
            for i, asked in zip(rows.tolist(), found.looked(self.means.draws).tolist(), strict=True):
                self.tried[i] |= {radius} if asked else set()
            hit = found.refuted.nonzero().squeeze(1)
            judged = self._weigh(rows[hit], found.x[hit], text, threat)
            self._reach(rows[hit], judged, radius)
            self.beyond[0, rows[hit].cpu()] += self._cost(judged).cpu()
            self.beyond[:, rows.cpu()] += torch.stack([found.queries, found.gradients]).cpu()

    def _reach(self, rows: Tensor, judged: Weighed, radius: float) -> None:
        struck = rows[judged.violated]
        self.reached[struck.cpu()] = radius
        self.point[struck] = judged.point[judged.violated]

    def records(self) -> list[SampleRecord]:
        """A record for every sample."""
        property = self.question.property
        for row, _ in self.judge.disagreements:
            self.flags[row].add("replay-disagrees")
        predicted, labels = property.answer(self.judge.clean_outputs).tolist(), property.label(self.y).tolist()
        return [self._record(i, predicted[i], labels[i]) for i in range(len(self.ids))]

    def _record(self, row: int, predicted: float, label: float) -> SampleRecord:
        each, worst, clean = self.each[row], self.worst[row], float(self.judge.clean[row])
        invalid = self.judge.status[row] is Status.INVALID
        reached = [one.margin for one in each.values() if one.margin is not None and not self.means.nearest]
        margin = min([clean, *reached]) if worst is None else worst.margin
        stopped = sorted({one.stopped for one in each.values() if one.stopped})
        ends = "".join(f"; the {what} ran out" for what in stopped)
        attacked = any(one.attacked for one in each.values())
        seen = f"attacks brought the margin to {margin:.4g}" if attacked else NOT_ATTACKED
        every = invalid or (self.means.nearest and attacked)
        return SampleRecord(
            id=self.ids[row],
            label=float(label),
            predicted=float(predicted),
            status="invalid" if invalid else "unknown" if worst is None else "refuted",
            reason="" if invalid or worst else f"{seen}{ends}",
            method=None if worst is None else worst.text,
            clean_margin=clean,
            margin=margin,
            distance=None if worst is None else worst.distance,
            adversarial=None if worst is None else worst.answer,
            witness=worst.file if worst is not None and self.wanted else None,
            queries=self.judge.draws + sum(one.queries for one in each.values()) + int(self.beyond[0, row]),
            gradients=sum(one.gradients for one in each.values()) + int(self.beyond[1, row]),
            seconds=sum(one.seconds for one in each.values()),
            attacked_radius=None if self.reached[row].isnan() else float(self.reached[row]),
            flags=sorted(self.flags[row] - ({"still-falling"} if worst else set())),
            attacks=each,
            attacked=attacked,
            tried=None if every else sorted(self.tried[row] | ({self.question.threat.radius} if attacked else set())),
            cut={} if invalid else self.late[row],
        )

    def _search(
        self, text: str, attack: Attack, rows: Tensor, threat: Threat, seconds: float | None, nearest: bool
    ) -> Found:
        means, question = self.means, self.question
        ids = [self.ids[i] for i in rows.tolist()]
        budget = Budget(seconds, self.allowance(attack, own=threat is question.threat))
        search, began = closest if nearest else run, time.perf_counter()
        try:
            found = search(
                attack,
                question.model,
                self.x0[rows],
                self.y[rows],
                threat,
                question.property,
                ids=ids,
                seed=means.seed,
                budget=budget,
                access=means.access,
                surrogate=means.surrogate,
                draws=means.draws,
            )
            if found.stopped == "time":
                for i in rows[~found.refuted].tolist():
                    self.late[i][text] = "the time ran out"
            return found
        except ModelRaised as raised:
            raise ModelRaised(int(rows[raised.row]), raised.error) from raised
        finally:
            self.spent[text] = self.spent.get(text, 0.0) + time.perf_counter() - began

    def _cost(self, judged: Weighed) -> Tensor:
        """Rows of the model that the judge asked to weigh each candidate: a replay elsewhere is none."""
        again = judged.suspect if self.question.replay is None else torch.zeros_like(judged.suspect)
        return self.judge.draws * (1 + again.long())

    def _weigh(self, rows: Tensor, points: Tensor, text: str, threat: Threat) -> Weighed:
        try:
            return self.judge.weigh(Candidate(rows, points), text, threat)
        except ModelRaised as raised:
            raise ModelRaised(int(rows[raised.row]), raised.error) from raised


def _name(text: str) -> str:
    return text.partition(":")[0]
