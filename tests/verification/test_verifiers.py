"""What holds of every registered verifier, and of the search that drives them."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import exact_least_margin, random_net, random_rows

from withstand.attacks.pgd import PGD
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.evidence import Candidate, Grade, Lower
from withstand.core.judge import Judge, Status
from withstand.core.patch import Patch
from withstand.core.property import Argmax, Linear
from withstand.core.registry import build, components
from withstand.core.rng import RowRandom
from withstand.core.runner import run
from withstand.core.sparse import L0
from withstand.verification.problem import Problem
from withstand.verification.search import TIME_OVER, search

NAMES = [*components("verifier"), "crown:lower=zero", "crown:lower=one", "crown:lower=parallel"]
THREATS = [Linf(0.1), L2(0.15), L1(0.2), L0(1), Patch(window=(1, 2))]


def some_evidence(verifier, problem):
    """Evidence up to the first bounds."""
    found = []
    for evidence in verifier.prove(problem):
        found.append(evidence)
        if isinstance(evidence, Lower):
            break
    return found


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_never_exceed_what_sampling_finds(name, threat, dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for seed in range(2):
        graph = random_net([5, 12, 9, 3], seed, dtype)
        x0 = torch.rand(4, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)
        y = graph(x0).argmax(1)
        problem = Problem(graph, x0, y, threat, Argmax())
        many = torch.arange(4).repeat(400)
        points = threat.sample(x0[many], RowRandom(torch.arange(len(many))))
        sampled = Argmax().margin(graph(points), y[many]).reshape(400, 4).amin(0)
        evidence = some_evidence(build("verifier", name), problem)
        assert any(isinstance(e, Lower) for e in evidence)
        for piece in evidence:
            assert piece.rows.dtype == torch.long
            assert ((piece.rows >= 0) & (piece.rows < 4)).all()
            if isinstance(piece, Lower):
                assert list(Grade).index(piece.grade) >= list(Grade).index(problem.grade)
                assert (piece.bound <= sampled[piece.rows] + tolerance).all()
            if isinstance(piece, Candidate):
                assert threat.contains(x0[piece.rows], piece.x).all()


@pytest.mark.parametrize("name", NAMES)
def test_closed_questions_get_no_evidence_and_none_are_no_error(name):
    graph = random_net([3, 6, 3], 1, torch.float32)
    x0 = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    problem = Problem(graph, x0, graph(x0).argmax(1), Linf(0.02), Argmax())
    problem.open[torch.tensor([1, 3])] = False
    for piece in some_evidence(build("verifier", name), problem):
        assert not {1, 3} & set(piece.rows.tolist())
    problem.open[:] = False
    assert list(build("verifier", name).prove(problem)) == []


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_certified_below_true_below_attacked(seed):
    graph, property = random_net([2, 4, 2], seed), random_rows(2, [1, 1], seed)
    low, high = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    truth = exact_least_margin(graph, property, low, high)
    x0, threat = torch.full((1, 2), 0.5, dtype=torch.float64), Box(lower=low, upper=high)
    problem = Problem(graph, x0, torch.zeros(1), threat, property)
    for name in NAMES:
        bounds = [e.bound.item() for e in some_evidence(build("verifier", name), problem) if isinstance(e, Lower)]
        assert max(bounds) <= truth + 1e-8
    attacked = run(PGD(), graph, x0, torch.zeros(1), threat, property)
    assert attacked.margin.item() >= truth - 1e-8


@dataclass(init=False)
class Scripted:
    """A verifier that says what it was given, and counts how far it was heard."""

    def __init__(self, *evidence, reason=None):
        self.evidence, self.reason, self.said, self.asked = evidence, reason, 0, None

    def prove(self, problem):
        self.asked = problem.x0[:, 0].tolist()
        for piece in self.evidence:
            self.said += 1
            yield piece
        return self.reason


def judge_of(*x0, threat=None):
    """Questions whose margin is x itself."""
    property = Linear(torch.ones(1, 1), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    points = torch.tensor(x0)[:, None]
    return Judge(lambda x: x, None, points, torch.zeros(len(points)), threat or Linf(1.0, domain=(-9, 9)), property)


def lower(rows, bounds, problem_grade):
    return Lower(torch.tensor(rows), torch.tensor(bounds), problem_grade)


def test_search_asks_only_about_open_rows_and_maps_evidence_back():
    judge, graph = judge_of(0.5, -0.5, 1.5), random_net([1, 1], 0, torch.float32)
    first = Scripted(lower([1], [0.4], judge_grade()), reason="it was told to")
    second = Scripted(Candidate(torch.tensor([0]), torch.tensor([[-0.25]])))
    verdicts = search(judge, graph, [first, second])
    assert first.asked == [0.5, 1.5]
    assert second.asked == [0.5]
    assert [v.status for v in verdicts] == [Status.REFUTED, Status.INVALID, Status.PROVED]
    assert all(v.reason == "" for v in verdicts)


def judge_grade():
    return Grade.FLOAT32


def test_search_says_why_questions_stay_unknown():
    graph = random_net([1, 1], 0, torch.float32)
    (verdict,) = search(judge_of(0.5), graph, [Scripted(lower([0], [-0.3], judge_grade()), reason="no memory left")])
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, "no memory left")
    assert verdict.bound == pytest.approx(-0.3)
    (verdict,) = search(judge_of(0.5), graph, [Scripted()])
    assert verdict.reason == "scripted came to its end"
    assert verdict.bound == -math.inf
    (verdict,) = search(judge_of(0.5), graph, [])
    assert verdict.reason == "no verifier was asked"
    (verdict,) = search(judge_of(0.5), graph, [Scripted()], Budget(1e-9))
    assert verdict.reason == TIME_OVER


def test_search_stops_when_nothing_is_open_or_enough_is_known():
    graph, proof = random_net([1, 1], 0, torch.float32), lower([0], [0.4], judge_grade())
    verifier = Scripted(proof, proof, proof)
    search(judge_of(0.5), graph, [verifier])
    assert verifier.said == 1
    verifier, judge = Scripted(proof, proof, proof), judge_of(0.5, 0.7)
    search(judge, graph, [verifier], enough=lambda: Status.PROVED in judge.status)
    assert verifier.said == 1
    verifier = Scripted(proof)
    search(judge_of(0.5, 0.7, 0.9), graph, [verifier], rows=torch.tensor([2, 0]))
    assert verifier.asked == pytest.approx([0.9, 0.5])
