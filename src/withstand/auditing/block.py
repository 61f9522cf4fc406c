"""A block of samples under audit: what is known of each so far, and how attacks and verifiers add to it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from withstand.bounds.support import unboundable
from withstand.checker.file import to_bytes
from withstand.checker.network import Network
from withstand.checker.reading import read_network
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status
from withstand.core.property import Property
from withstand.core.records import SampleRecord
from withstand.core.registry import name_of
from withstand.core.rng import row_seeds
from withstand.core.runner import Access, Attack, Found, run
from withstand.core.threat import Threat
from withstand.graph.model import Model
from withstand.verification.certificates import certify_row
from withstand.verification.execution import Execution
from withstand.verification.proof import NORMS, proofs_of
from withstand.verification.search import TIME_OVER, Verifier, search

FLAT = 0.05
"""A search is still falling if more than this share of its whole fall came in its last tenth."""

DEAD = 0.5
"""A row's gradients are dead if more than this share of them are exactly zero."""

NEAR = 0.05
"""A witness surprises only if the attacks before had left more than this share of the clean margin."""

CERTIFICATES = "certificates"
"""The name of the stage that makes them."""

Side = Literal["attack", "verify"]


@dataclass(frozen=True)
class Setup:
    """What settling any block of a run needs: everything but the samples. It can be sent to another process.

    onnx: the model's deployed form (None where it has no graph). share: of the samples, how many the alarms look at.
    certificates: whether those of proofs are wanted.
    """

    model: Model
    onnx: bytes | None
    threat: Threat
    property: Property
    attacks: tuple[Attack, ...]
    verifiers: tuple[Verifier, ...]
    radii: tuple[float, ...]
    seed: int = 0
    queries: int | None = None
    share: float = 1.0
    device: str = "cpu"
    certificates: bool = False

    @cached_property
    def arithmetic(self) -> Execution | None:
        """The network's own arithmetic, for the judge; None where it has no graph."""
        graph = self.model.graph
        return None if graph is None or unboundable(graph) else Execution(graph, self.property)

    @cached_property
    def checked(self) -> Network | str:
        """The network as the checker of certificates reads it, or why there are no certificates."""
        if not self.certificates:
            return "none are wanted"
        if self.model.differs is not None:
            return self.model.differs
        if self.onnx is None or self.threat.norm not in NORMS:
            return f"proofs over {self.threat.norm} have none" if self.onnx else "the model has no graph"
        try:
            return read_network(self.onnx)
        except InputError as error:
            return str(error)


@dataclass(frozen=True)
class Job:
    """Samples to settle together: x [B, *shape], y [B], ids. earlier: what attempts before left of each (None: nothing,
    the sample is new)."""

    x: Tensor
    y: Tensor
    ids: list[int]
    earlier: Sequence[SampleRecord | None]


class Block:
    """The samples of a job before the judge. cut: per row, the methods that time kept from their end, and why."""

    def __init__(self, setup: Setup, replay: Callable[[Tensor], Tensor] | None, job: Job) -> None:
        x0, y, ids = job.x, job.y, job.ids
        self.setup, self.replay, self.x0, self.y, self.ids, self.earlier = setup, replay, x0, y, ids, job.earlier
        self.judge = Judge(setup.model, replay, x0, y, setup.threat, setup.property, arithmetic=setup.arithmetic)
        self.clean = self.judge.clean.clone()
        self.predicted = self.answers(self.judge.outputs)
        self.queries, self.gradients = torch.ones(len(x0), dtype=torch.long), torch.zeros(len(x0), dtype=torch.long)
        self.seconds = torch.zeros(len(x0), dtype=torch.float64)
        self.spent: dict[Side, float] = {"attack": 0.0, "verify": 0.0}
        self.flags: list[set[str]] = [set() if one is None else set(one.flags) for one in job.earlier]
        self.cut: list[dict[str, str]] = [{} if one is None else dict(one.cut) for one in job.earlier]
        self.attacked = torch.tensor([one is not None and one.attacked for one in job.earlier], dtype=torch.bool)
        settled = [one is not None and one.status != "unknown" and CERTIFICATES not in one.cut for one in job.earlier]
        self._settled = torch.tensor(settled, dtype=torch.bool, device=x0.device)
        self.stopped: list[str | None] = [None] * len(ids)
        network, known = setup.checked, (setup.threat, setup.property, x0, y)
        self.proofs = None if isinstance(network, str) else proofs_of(network, *known)
        self.certificates: dict[int, bytes] = {}
        self.uncertified: dict[int, str] = {}

    def answers(self, outputs: Tensor) -> list[float]:
        """The number by which a person names outputs (see `Property.answer`)."""
        return self.setup.property.answer(outputs).tolist()

    @property
    def open(self) -> Tensor:
        """Numbers of the rows without a verdict, of this attempt or an earlier one."""
        return (self.judge.open & ~self._settled).nonzero().squeeze(1)

    def wanting(self, method: str, rows: Tensor) -> Tensor:
        """The part of `rows` on which a method has not come to its end in an earlier attempt. Certificates are made of
        proofs that are in memory: a row that lacks one is done again."""
        wants = [one is None or method in one.cut or CERTIFICATES in one.cut for one in self.earlier]
        return rows[torch.tensor(wants, dtype=torch.bool, device=rows.device)[rows]]

    def lowest(self, row: int) -> float:
        """The lowest margin seen at an admissible point of a row, in any attempt."""
        before = self.earlier[row]
        return min(float(self.judge.margin[row]), float("inf") if before is None else before.margin)

    def sampled(self, rows: Tensor) -> Tensor:
        """The part of `rows` that the alarms look at: chosen by seed and sample, whatever block a sample is in."""
        ids = [self.ids[i] for i in rows.tolist()]
        draw = (row_seeds(self.setup.seed, ids, "looked at by alarms").double() / 2.0**64 + 0.5).to(rows.device)
        return rows[draw < self.setup.share]

    @contextmanager
    def timed(self, side: Side, rows: Tensor) -> Iterator[None]:
        """Book the time inside on a side, in equal parts on the rows."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.spent[side] += took
            self.seconds[rows.cpu()] += took / max(1, len(rows))

    def run(self, attack: Attack, rows: Tensor, threat: Threat, budget: Budget) -> Found:
        """Run an attack on some rows and count what it cost."""
        x0, y, setup = self.x0[rows], self.y[rows], self.setup
        ids = [self.ids[i] for i in rows.tolist()]
        found = run(
            attack, setup.model, x0, y, threat, setup.property, ids=ids, seed=setup.seed, budget=budget, batch=len(x0)
        )
        self.queries[rows.cpu()] += found.queries.cpu()
        self.gradients[rows.cpu()] += found.gradients.cpu()
        return found

    def attack(self, attack: Attack, rows: Tensor, budget: Budget, *, flag: str | None = None) -> Tensor:
        """Attack rows and tell the judge; `flag` marks rows this attack refutes where those before were far from it,
        and `flag` with `-miss` the others it looked at. Returns the rows on which the time ended it."""
        if len(rows) == 0 or budget.spent:
            return rows
        if self.setup.queries is not None:
            budget = replace(budget, queries=self.setup.queries // max(1, len(self.setup.attacks)))
        far = [self.lowest(row) > NEAR * float(self.clean[row]) for row in rows.tolist()]
        with self.timed("attack", rows):
            found = self.run(attack, rows, self.setup.threat, budget)
            if flag is None:
                self.note(attack, rows, found)
            better = found.margin < found.clean_margin
            self.judge.hear(Candidate(rows[better], found.x[better]), name_of(attack))
            self.queries[rows[better].cpu()] += 1
        self.attacked[rows.cpu()] |= found.looked().cpu()
        if flag is not None:
            for row, surprising in zip(rows.tolist(), far, strict=True):
                hit = surprising and self.judge.status[row] is Status.REFUTED
                self.flags[row].add(flag if hit else f"{flag}-miss")
        return rows[~found.refuted] if found.stopped == "time" else rows[:0]

    def note(self, attack: Attack, rows: Tensor, found: Found) -> None:
        """Keep the doubtful things a gradient search has seen."""
        if attack.access is not Access.GRADIENT:
            return
        for row, doubt in zip(rows.tolist(), doubts(attack, found), strict=True):
            self.flags[row].discard("still-falling")
            self.flags[row].update(doubt)
            self.stopped[row] = found.stopped

    def prove(self, verifier: Verifier, rows: Tensor, budget: Budget) -> Tensor:
        """Let a verifier work on rows and tell the judge. Returns the rows on which the time ended it."""
        graph = self.setup.model.graph
        assert graph is not None, "models without a graph have no verifiers"
        with self.timed("verify", rows):
            verdicts = search(self.judge, graph, [verifier], budget, rows=rows, proofs=self.proofs)
        return rows[[verdicts[row].reason == TIME_OVER for row in rows.tolist()]]

    @property
    def proved(self) -> Tensor:
        """Numbers of the rows that are proved in this attempt and have no certificate yet."""
        kept = [s is Status.PROVED and row not in self.certificates for row, s in enumerate(self.judge.status)]
        return torch.tensor(kept, dtype=torch.bool).nonzero().squeeze(1)

    def certify(self, rows: Tensor, budget: Budget) -> Tensor:
        """Make the certificates of proved rows, each in at most an equal share of the time; of those that cannot be
        made `uncertified` holds the reason. Returns the rows on which the time was over."""
        late = []
        for number, row in enumerate(rows.tolist()):
            assert self.proofs is not None
            share = budget.share(1 / (len(rows) - number))
            with self.timed("verify", torch.tensor([row])), share.enforced():
                found = certify_row(self.judge, row, self.proofs[row])
            if found.certificate is not None:
                self.certificates[row] = to_bytes(found.certificate)
            else:
                self.uncertified[row] = found.reason
                late += [row] if share.spent else []
        return torch.tensor(late, dtype=torch.long)


def doubts(attack: Attack, found: Found) -> list[set[str]]:
    """Per row, the names of doubtful things that a search by gradients has seen; nothing of others."""
    if attack.access is not Access.GRADIENT:
        return [set() for _ in found.margin]
    seen = {
        "dead": found.zero_gradients > DEAD * found.gradients.clamp(min=1),
        "non-finite": found.nonfinite > 0,
        "still-falling": (found.late > FLAT) & ~found.refuted,
    }
    return [
        {name for name, on in zip(seen, row, strict=True) if on} for row in torch.stack([*seen.values()], 1).tolist()
    ]
