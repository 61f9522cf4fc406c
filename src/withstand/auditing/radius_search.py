"""The search for the radii of all samples: attacks and verifiers from cheap to dear, and what is known kept on disk."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from withstand.auditing.question import Question
from withstand.bounds.support import unboundable
from withstand.core.attack import Attack, misfit
from withstand.core.budget import Budget
from withstand.core.registry import build
from withstand.graph.ir import Graph
from withstand.io.radii import UNFINISHED, RadiiFile, SampleRadii
from withstand.verification.ends import End, Ends
from withstand.verification.execution import Execution
from withstand.verification.radius import narrow
from withstand.verification.refuting import refute
from withstand.verification.search import TIME_OVER, Verifier

BLOCK = 64
"""Samples worked on together."""

NEAREST = ("nearest", "sigma-zero")
"""Attacks for the nearest violation; the one for the threat's norm comes first of all."""

STRONG = ("multi-targeted", "worst:queries=0")
"""Attacks that are asked by bisection, where cheap bounds have left room for a violation."""

ATTACKS = 0.3
"""Share of the time left that attacks may take of every block."""

MISSES = 2
"""Radii without a proof after which a search that has time leaves a sample until it has more work to spend on it."""

GROWTH = 4
"""Each pass of branch and bound, where time is limited, has so many times the work of the one before."""

Passes = Iterable[tuple[Verifier, int | None]]
"""Verifiers in the order in which they see all samples, each with how often it may miss on one (none: no limit)."""


def passes(verifiers: Sequence[str]) -> Iterator[tuple[Verifier, int | None]]:
    """The verifiers named; branch and bound without a limit of its own comes again and again, with ever more work."""
    for text in verifiers:
        if text != "branch-and-bound":
            yield build("verifier", text), None
            continue
        effort = 1
        while True:
            yield build("verifier", f"{text}:effort={effort}"), MISSES
            effort *= GROWTH


class RadiusSearch:
    """Finds the radii of a question's samples.

    replay: of the model, for witnesses. digests: of each sample's question, by its number. file: where a line is added
    for every sample when it is done. Afterwards `ended` holds the samples by their numbers.
    """

    def __init__(
        self,
        question: Question,
        graph: Graph,
        replay: Callable[[Tensor], Tensor] | None,
        verifiers: Passes,
        tolerance: float,
        seed: int,
        budget: Budget,
        digests: dict[int, str],
        file: RadiiFile | None,
    ) -> None:
        self.question, self.graph, self.replay, self.verifiers = question, graph, replay, verifiers
        self.tolerance, self.seed, self.budget, self.digests, self.file = tolerance, seed, budget, digests, file
        self.ended: dict[int, SampleRadii] = {} if file is None else dict(file.ended)
        self.blocks: list[_Block] = []

    def run(self) -> None:
        """Let the attacks and each verifier in turn see all samples that are not done."""
        left = [row for row, id in enumerate(self.question.data.ids) if id not in self.ended]
        self.blocks = [self._begin(left[first : first + BLOCK]) for first in range(0, len(left), BLOCK)]
        self._refute(NEAREST)
        coming, attacked = iter(self.verifiers), False
        now = next(coming, None)
        while now is not None and any(self._live) and not self.budget.spent:
            (verifier, misses), then = now, next(coming, None)
            if getattr(verifier, "searches", False) and not attacked:
                attacked = True
                self._refute(STRONG)
            for block in self._live:
                block.verify(self.graph, verifier, misses, self.budget)
                self._note(block, last=then is None and attacked)
            now = then
        if not attacked:
            self._refute(STRONG)
        for block in self._live:
            self._note(block, last=True)

    @property
    def _live(self) -> "list[_Block]":
        return [block for block in self.blocks if len(block.rows)]

    def _begin(self, rows: list[int]) -> "_Block":
        question, at = self.question, torch.tensor(rows, device=self.question.x.device)
        x0, y = question.x[at], question.y[at]
        model, threat, property = question.model, question.threat, question.property
        own = None if model.graph is None or unboundable(model.graph) else Execution(model.graph, property)
        ends = Ends(model, self.replay, x0, y, threat, property, self.tolerance, own)
        return _Block(ends, [question.data.ids[row] for row in rows])

    def _refute(self, names: Sequence[str]) -> None:
        """Let the attacks that fit the question see all samples that are not done."""
        norm, losses = self.question.threat.norm, self.question.property.losses
        attacks = [build("attack", name) for name in names]
        attacks = [attack for attack in attacks if misfit(attack, norm, losses) is None]
        share = self.budget.share(ATTACKS)
        for block in self._live:
            for attack in attacks:
                block.attack(attack, share, self.seed)
            self._note(block)

    def _note(self, block: "_Block", last: bool = False) -> None:
        """Write down what is new of a block's samples; those that are done, or all where no verifier is left, leave
        the search."""
        status, kept = block.ends.status, []
        for row in block.rows.tolist():
            over = last or status[row] is not End.OPEN
            sample = self._sample(block, row, status[row], "" if over else UNFINISHED)
            if over:
                self.ended[sample.id] = sample
            else:
                kept.append(row)
            if self.file is not None and (over or (sample.proved, sample.refuted) != block.told.get(row)):
                self.file.append(sample)
                block.told[row] = (sample.proved, sample.refuted)
        block.rows = torch.tensor(kept, dtype=torch.long)

    def _sample(self, block: "_Block", row: int, status: End, reason: str) -> SampleRadii:
        ends, id = block.ends, block.ids[row]
        if status is End.OPEN and not reason:
            why = self.question.model.differs or "no verifier was asked"
            reason = TIME_OVER if self.budget.spent else block.reason.get(row, why)
        return SampleRadii(
            id=id,
            proved=float(ends.proved[row]),
            refuted=float(ends.refuted[row]),
            status=status.value,
            seconds=round(float(block.seconds[row]), 4),
            proved_by=ends.proved_by[row] or "",
            refuted_by=ends.refuted_by[row] or "",
            reason=reason,
            question=self.digests[id],
        )


class _Block:
    """Some samples, numbers `ids` in the data, with their ends. rows: those not done yet. told: the ends last written
    down, reason: what stopped the last search, by row."""

    def __init__(self, ends: Ends, ids: list[int]) -> None:
        self.ends, self.ids = ends, ids
        self.rows = torch.arange(len(ids))
        self.seconds = torch.zeros(len(ids), dtype=torch.float64)
        self.told: dict[int, tuple[float, float]] = {}
        self.reason: dict[int, str] = {}

    def attack(self, attack: Attack, budget: Budget, seed: int) -> None:
        rows = self._open
        if len(rows) and not budget.spent:
            with self._timed(rows):
                refute(self.ends, rows, [self.ids[row] for row in rows.tolist()], attack, budget, seed)

    def verify(self, graph: Graph, verifier: Verifier, misses: int | None, budget: Budget) -> None:
        rows = self._open
        if len(rows) and not budget.spent:
            with self._timed(rows):
                reasons = narrow(self.ends, rows, graph, verifier, budget, misses)
            self.reason |= dict(zip(rows.tolist(), reasons, strict=True))

    @property
    def _open(self) -> Tensor:
        return self.rows[self.ends.open[self.rows]]

    @contextmanager
    def _timed(self, rows: Tensor) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[rows] += (time.perf_counter() - began) / len(rows)
