"""A block of samples under audit: what is known of each so far, and how attacks and verifiers add to it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from withstand.checker.file import to_bytes
from withstand.checker.network import Network
from withstand.checker.reading import read_network
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status
from withstand.core.property import Property
from withstand.core.registry import name_of
from withstand.core.rng import row_seeds
from withstand.core.runner import Access, Attack, Found, run
from withstand.core.threat import Threat
from withstand.graph.model import Model
from withstand.verification.certificates import certify_row
from withstand.verification.proof import NORMS, proofs_of
from withstand.verification.search import Verifier, search

FLAT = 0.05
"""A search is still falling if more than this share of its whole fall came in its last tenth."""

DEAD = 0.5
"""A row's gradients are dead if more than this share of them are exactly zero."""

NEAR = 0.05
"""A witness surprises only if the attacks before had left more than this share of the clean margin."""

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
    def checked(self) -> Network | str:
        """The network as the checker of certificates reads it, or why there are no certificates."""
        if not self.certificates:
            return "none are wanted"
        if self.onnx is None or self.threat.norm not in NORMS:
            return f"proofs over {self.threat.norm} have none" if self.onnx else "the model has no graph"
        try:
            return read_network(self.onnx)
        except InputError as error:
            return str(error)


class Block:
    """Samples x0 [B, *shape] with targets y [B] and their numbers in the data, before the judge."""

    def __init__(
        self, setup: Setup, replay: Callable[[Tensor], Tensor] | None, x0: Tensor, y: Tensor, ids: list[int]
    ) -> None:
        self.setup, self.replay, self.x0, self.y, self.ids = setup, replay, x0, y, ids
        self.judge = Judge(setup.model, replay, x0, y, setup.threat, setup.property)
        self.clean = self.judge.clean.clone()
        self.predicted = self.answers(self.judge.outputs)
        self.queries, self.gradients = torch.ones(len(x0), dtype=torch.long), torch.zeros(len(x0), dtype=torch.long)
        self.seconds = torch.zeros(len(x0), dtype=torch.float64)
        self.spent: dict[Side, float] = {"attack": 0.0, "verify": 0.0}
        self.flags: list[set[str]] = [set() for _ in ids]
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
        """Numbers of the rows without a verdict."""
        return self.judge.open.nonzero().squeeze(1)

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

    def attack(self, attack: Attack, rows: Tensor, budget: Budget, *, flag: str | None = None) -> None:
        """Attack rows and tell the judge; `flag` marks rows this attack refutes where those before were far from it,
        and `flag` with `-miss` the others it looked at."""
        if len(rows) == 0 or budget.spent:
            return
        if self.setup.queries is not None:
            budget = replace(budget, queries=self.setup.queries // max(1, len(self.setup.attacks)))
        far = (self.judge.margin[rows] > NEAR * self.clean[rows]).tolist()
        with self.timed("attack", rows):
            found = self.run(attack, rows, self.setup.threat, budget)
            if flag is None:
                self.note(attack, rows, found)
            better = found.margin < found.clean_margin
            self.judge.hear(Candidate(rows[better], found.x[better]), name_of(attack))
            self.queries[rows[better].cpu()] += 1
        if flag is not None:
            for row, surprising in zip(rows.tolist(), far, strict=True):
                hit = surprising and self.judge.status[row] is Status.REFUTED
                self.flags[row].add(flag if hit else f"{flag}-miss")

    def note(self, attack: Attack, rows: Tensor, found: Found) -> None:
        """Keep the doubtful things a gradient search has seen."""
        if attack.access is not Access.GRADIENT:
            return
        for row, doubt in zip(rows.tolist(), doubts(attack, found), strict=True):
            self.flags[row].discard("still-falling")
            self.flags[row].update(doubt)
            self.stopped[row] = found.stopped

    def prove(self, verifier: Verifier, rows: Tensor, budget: Budget) -> None:
        """Let a verifier work on rows and tell the judge."""
        graph = self.setup.model.graph
        assert graph is not None, "models without a graph have no verifiers"
        with self.timed("verify", rows):
            search(self.judge, graph, [verifier], budget, rows=rows, proofs=self.proofs)

    def certify(self, budget: Budget) -> None:
        """Make the certificates of all proofs so far, each in at most an equal share of the time; of those that cannot
        be made `uncertified` holds the reason."""
        proved = [row for row, status in enumerate(self.judge.status) if status is Status.PROVED]
        for number, row in enumerate(proved):
            assert self.proofs is not None
            share = budget.share(1 / (len(proved) - number))
            with self.timed("verify", torch.tensor([row])), share.enforced():
                found = certify_row(self.judge, row, self.proofs[row])
            if found.certificate is not None:
                self.certificates[row] = to_bytes(found.certificate)
            else:
                self.uncertified[row] = found.reason


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
