"""The verifier by Lipschitz constants: sound against sampling, attacks and CROWN; exact where it must be."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_net, relu_net
from typer.testing import CliRunner

import withstand
from withstand.attacks.pgd import PGD
from withstand.cli.app import app
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.evidence import Candidate, Grade, Lower
from withstand.core.judge import Judge, Status
from withstand.core.patch import Patch
from withstand.core.property import Argmax, Linear
from withstand.core.rng import RowRandom
from withstand.core.runner import run
from withstand.core.sparse import L0
from withstand.graph.ir import Graph, Node
from withstand.lipschitz import certified as room
from withstand.lipschitz.autolip import autolip
from withstand.verification.methods.crown import Crown
from withstand.verification.methods.lipschitz import Lipschitz
from withstand.verification.problem import Problem
from withstand.verification.search import search

THREATS = [Linf(0.05), L2(0.1), L1(0.1), L0(1), Patch(window=(1, 2)), L2(0.2, domain=(-math.inf, math.inf))]


def bounds(problem):
    """All bounds of the verifier, in the order of the questions."""
    pieces = [piece for piece in Lipschitz().prove(problem) if isinstance(piece, Lower)]
    assert torch.cat([piece.rows for piece in pieces]).tolist() == list(range(len(problem)))
    assert {piece.grade for piece in pieces} == {problem.grade}
    return torch.cat([piece.bound for piece in pieces])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), threat=st.sampled_from(THREATS), double=st.booleans())
def test_never_above_what_sampling_and_attacks_find(seed, threat, double):
    dtype = torch.float64 if double else torch.float32
    graph = random_net([4, 8, 6, 3], seed, dtype)
    x0 = torch.rand(6, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)
    y = graph(x0).argmax(1)
    found = bounds(Problem(graph, x0, y, threat, Argmax()))
    many = torch.arange(6).repeat(300)
    points = threat.sample(x0[many], RowRandom(torch.arange(len(many))))
    sampled = Argmax().margin(graph(points), y[many]).reshape(300, 6).amin(0)
    assert (found <= sampled + (1e-10 if double else 1e-5)).all()
    if threat.norm in PGD.norms:
        attacked = run(PGD(steps=5, restarts=1), graph, x0, y, threat, Argmax())
        assert (found <= attacked.margin + (1e-10 if double else 1e-5)).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), threat=st.sampled_from(THREATS[:3]))
def test_the_judge_finds_no_contradiction_with_crown_and_attacks(seed, threat):
    graph = random_net([3, 6, 3], seed, torch.float32)
    x0 = torch.rand(8, 3, generator=torch.Generator().manual_seed(seed))
    y = graph(x0).argmax(1)
    own, crown = (Judge(graph, None, x0, y, threat, Argmax()) for _ in range(2))
    search(own, graph, [Lipschitz()])
    search(crown, graph, [Crown()])
    found = run(PGD(steps=5, restarts=1), graph, x0, y, threat, Argmax())
    for judge in (own, crown):
        judge.hear(Candidate(torch.arange(8), found.x), "pgd")
    proved = [{row for row in range(8) if judge.status[row] is Status.PROVED} for judge in (own, crown)]
    refuted = [{row for row in range(8) if judge.status[row] is Status.REFUTED} for judge in (own, crown)]
    assert not proved[0] & refuted[1]
    assert not proved[1] & refuted[0]


def test_a_linear_network_is_exact_in_l2():
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=made, dtype=torch.float64)
    graph = relu_net([weight], [torch.zeros(3, dtype=torch.float64)])
    x0 = torch.randn(7, 5, generator=made, dtype=torch.float64)
    y = graph(x0).argmax(1)
    threat = L2(0.01, domain=(-math.inf, math.inf))
    found = bounds(Problem(graph, x0, y, threat, Argmax()))
    differences = Argmax().rows(y, 3, torch.float64).weight
    exact = (differences @ graph(x0)[:, :, None]).squeeze(2) - threat.reach * (differences @ weight).norm(dim=2)
    assert found.numpy() == pytest.approx(exact.amin(1).numpy(), abs=1e-9)


def test_boxes_are_measured_from_their_middle():
    graph = relu_net([torch.eye(2, dtype=torch.float64)], [torch.zeros(2, dtype=torch.float64)])
    property = Linear(torch.tensor([[1.0, 0.0]]), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    box = Box(lower=torch.tensor([1.0, -5.0]).double(), upper=torch.tensor([3.0, -5.0]).double())
    x0 = torch.tensor([[3.0, -5.0]], dtype=torch.float64)
    assert float(bounds(Problem(graph, x0, torch.zeros(1), box, property))) == pytest.approx(1.0)


def test_constants_are_computed_once_for_many_questions(monkeypatch):
    counted = []
    monkeypatch.setattr(room, "autolip", lambda layout, p: counted.append(p) or autolip(layout, p))
    graph = random_net([3, 5, 3], 3, torch.float32)
    x0 = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    problem = Problem(graph, x0, graph(x0).argmax(1), L2(0.01), Argmax())
    assert len(bounds(problem)) == 100
    bounds(problem)
    assert sorted(counted) == [1, 2, math.inf]


def test_a_network_without_a_constant_is_an_input_error():
    graph = Graph(
        [Node("z", "pow", ("x",), {"exponent": 2.0})], {}, input="x", output="z", input_shape=(2,), output_shape=(2,)
    )
    problem = Problem(graph, torch.rand(1, 2), torch.zeros(1).long(), L2(0.1), Argmax())
    with pytest.raises(InputError, match="'pow' at node 'z' has no Lipschitz constant over all inputs"):
        list(Lipschitz().prove(problem))


def test_verify_tells_the_constants():
    words = ["verify", "digits-cnn", "--data", "digits", "--threat", "l2:0.02", "--method", "lipschitz", "--limit", "4"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    for text in ("secants", "lower bound", "eclipse-fast", "certified", "power method", "difference of two outputs"):
        assert text in done.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    kinds = {bound["method"]: bound["kind"] for bound in told["constants"]["bounds"]}
    assert kinds["autolip"] == "certified"
    assert told["grade"] == Grade.FLOAT32
    assert withstand.verify("digits-cnn", "digits", "l2:0.02", method="ibp", limit=2).constants is None
