"""Every verifier on questions about random networks, held against points whose margins are known.

python tests/fuzz/asking.py FIRST LAST      the networks of these numbers, with figures and what went wrong
"""

import random
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/")[0])

from networks import Made, random_network
from truth import lowest_by_program, lowest_by_search, margin

from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.evidence import Evidence, Lower
from withstand.core.judge import Judge, Status
from withstand.core.property import Linear, Rows
from withstand.core.registry import build, components
from withstand.core.threat import Threat
from withstand.verification.search import search

QUESTIONS = 2
"""Questions about each network."""

EVIDENCE = 16
"""Pieces of evidence after which a search is left: no verdict depends on the time."""

DEAR = ("input-split", "branch-and-bound", "alpha-crown", "milp", "lp", "lipschitz")
"""Verifiers that take ten times as long as the others."""

RADII = (0.0, 1e-9, 0.01, 0.1, 0.3, 1.0, 3.0)

DOMAINS = ((-100.0, 100.0), (0.0, 1.0), (-1.0, 1.0))

ENDS = 1e-5
"""How near to the least margin the bound of a complete search comes, as a share of the numbers in the network."""


@dataclass
class Figures:
    """What was asked and what came of it. wrong: sentences, each with the network's number and the verifier."""

    networks: int = 0
    questions: int = 0
    exact: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = Counter[str]()
        for (_, status), count in self.verdicts.items():
            total[status] += count
        told = ", ".join(f"{count} {status}" for status, count in sorted(total.items()))
        return (
            f"{self.networks} networks, {self.questions} questions ({self.exact} with an exact truth), "
            f"{len({name for name, _ in self.verdicts})} verifiers: {told}; "
            f"{sum(self.refusals.values())} refusals; {len(self.wrong)} wrong"
        )


@dataclass(frozen=True)
class Question:
    """Questions about one network: the property is a row of groups for each, and y is the question's number."""

    made: Made
    x0: Tensor
    threat: Threat
    property: Linear
    points: list[Tensor]
    truth: list[float]
    """The least margins by the program; minus infinity where there is none."""

    room: float
    size: float


def draw_threat(draw: random.Random, x0: Tensor) -> tuple[Threat, Tensor]:
    """A threat, and where it is asked about: often at corners of the domain, some coordinates fixed."""
    radius, domain = draw.choice(RADII), draw.choice(DOMAINS)
    kind = draw.choice(["linf", "l2", "l1", "box"])
    if kind == "box":
        reach = torch.rand(x0.shape[1:], dtype=x0.dtype) * radius
        reach = reach * (torch.rand(x0.shape[1:]) < 0.8)
        return Box(lower=x0[0] - reach, upper=x0[0] + reach), x0[:1].expand_as(x0).clone()
    if draw.random() < 0.3:
        x0 = torch.where(torch.rand(x0.shape) < 0.5, torch.tensor(domain[0]).to(x0), x0)
    threat = {"linf": Linf, "l2": L2, "l1": L1}[kind](radius, domain)
    return threat, x0.clamp(*domain)


def draw_question(seed: int) -> Question | None:
    """Random questions about the network of this number whose margins come near zero; None where its numbers are no
    numbers."""
    draw, made = random.Random(seed), random_network(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dtype = torch.float32 if seed % 5 == 4 else torch.float64
        graph = made.graph.to(dtype)
        x0 = torch.randn(QUESTIONS, *graph.input_shape).to(dtype) * draw.choice([0.3, 1.0, 1.0, 5.0])
        threat, x0 = draw_threat(draw, x0)
        outputs = torch.Size(graph.output_shape).numel()
        groups = torch.arange(draw.choice([1, 1, 2])).repeat_interleave(draw.choice([1, 1, 2]))
        weight = torch.randn(QUESTIONS, len(groups), outputs, dtype=dtype)
        if draw.random() < 0.15:
            weight = weight.round()
    offset = torch.zeros(QUESTIONS, len(groups), dtype=dtype)
    points, truth, largest = [], [], 1.0
    for number in range(QUESTIONS):
        one, own = x0[number : number + 1], threat.pick(torch.tensor([number]), x0)
        rows = Rows(weight[number : number + 1], offset[number : number + 1], groups)
        found = lowest_by_search(graph, own, one, rows)
        values = graph.trace(found)
        if not all(bool(value.isfinite().all()) for value in values.values()):
            return None
        largest = max(largest, *(float(value.abs().max()) for value in values.values()))
        least, clean = float(margin(graph, rows, found).min()), float(margin(graph, rows, one))
        share = draw.choice([-0.2, -0.01, 0.0, 0.01, 0.3])
        offset[number] = -least + (share * (clean - least) if clean > least else abs(share))
        rows = Rows(rows.weight, offset[number : number + 1], groups)
        value = -torch.inf
        if made.straight and not made.huge:
            value, exact = lowest_by_program(graph.double(), own, one.double(), Rows(*(_wide(rows))))
            graph.to(dtype)
            found = torch.cat([found, exact.to(dtype)])
        points.append(found)
        truth.append(value)
    room = 1e5 * torch.finfo(dtype).eps * (1 + largest) * (1 + float(weight.abs().sum((1, 2)).max()))
    return Question(made, x0, threat, Linear(weight, offset, groups), points, truth, room, largest)


def _wide(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    return rows.weight.double(), rows.offset.double(), rows.group


class Listener(Judge):
    """A judge that compares every bound with the least margin of known points, and has heard enough in the end."""

    def __init__(self, asked: Question) -> None:
        self.heard, self.asked, self.above = 0, asked, ""
        y = torch.arange(QUESTIONS)
        super().__init__(asked.made.graph, None, asked.x0, y, asked.threat, asked.property)
        rows = asked.property.rows(y, asked.property.weight.shape[-1], asked.x0.dtype)
        single = [Rows(rows.weight[n : n + 1], rows.offset[n : n + 1], rows.group) for n in range(QUESTIONS)]
        graph, points = asked.made.graph, asked.points
        self.least = [float(margin(graph, own, at).min()) for own, at in zip(single, points, strict=True)]

    def is_full(self) -> bool:
        """Whether the search is to be left."""
        return self.heard >= EVIDENCE

    def hear(self, evidence: Evidence, method: str) -> None:
        self.heard += 1
        if isinstance(evidence, Lower):
            for row, bound in zip(evidence.rows.tolist(), evidence.bound.tolist(), strict=True):
                if not bound <= self.least[row] + self.asked.room:
                    self.above = f"bound {bound!r} above the margin {self.least[row]!r} of question {row}"
        super().hear(evidence, method)


def ask(seed: int, names: list[str], figures: Figures) -> None:
    """Every verifier on the questions about one network."""
    try:
        asked = draw_question(seed)
    except InputError as error:
        figures.refusals[str(error)] += 1
        return
    if asked is None:
        return
    figures.networks += 1
    figures.questions += QUESTIONS
    figures.exact += sum(value > -torch.inf for value in asked.truth)
    for name in names:
        judge = Listener(asked)
        try:
            verdicts = search(judge, asked.made.graph, [build("verifier", name)], enough=judge.is_full)
        except InputError as error:
            figures.refusals[str(error)] += 1
            continue
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename.rpartition('withstand/')[2]}:{last.lineno}"
            figures.wrong.append(f"{seed} {name}: {type(error).__name__} at {where}: {str(error)[:200]}")
            continue
        if judge.above:
            figures.wrong.append(f"{seed} {name}: {judge.above}")
        for row, verdict in enumerate(verdicts):
            figures.verdicts[name, str(verdict.status)] += 1
            ended = verdict.reason.endswith("came to its end") and judge.heard < EVIDENCE
            missed = asked.truth[row] - ENDS * asked.size - max(verdict.bound, 0.0)
            if (
                name == "milp"
                and ended
                and verdict.status is Status.UNKNOWN
                and missed > 0
                and asked.threat.norm != "l2"
            ):
                figures.wrong.append(f"{seed} {name}: ends at {verdict.bound}, where {asked.truth[row]} is least")


def fuzz(first: int, last: int, figures: Figures | None = None, sparing: bool = False) -> Figures:
    """The networks first to last - 1, every verifier on each; sparing: those that cost much in turn."""
    figures, names = figures or Figures(), list(components("verifier"))
    for seed in range(first, last):
        turn = [*DEAR[seed % 4 :: 4]]
        ask(seed, [name for name in names if not sparing or name not in DEAR or name in turn], figures)
    return figures


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    total, began = Figures(), time.process_time()
    for number in range(*map(int, sys.argv[1:3])):
        known = len(total.wrong)
        fuzz(number, number + 1, total)
        print(*total.wrong[known:], sep="\n", end="\n" if len(total.wrong) > known else "", flush=True)
        if number % 250 == 249:
            print(total, f"{time.process_time() - began:.0f} CPU seconds", flush=True)
    print(total, f"{time.process_time() - began:.0f} CPU seconds")
    for (verifier, status), times in sorted(total.verdicts.items()):
        print(f"{verifier:20s} {status:10s} {times}")
    for sentence, times in total.refusals.most_common(20):
        print(times, sentence)
