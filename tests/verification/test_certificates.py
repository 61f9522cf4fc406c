"""Certificates that verifiers write: they hold, what fails is mended, and every reason for none is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import exact_least_margin, random_net, random_rows, relu_net

from withstand.bounds.margin import lower_bound
from withstand.checker.certificate import NEURON_SPLIT, ONCE, PARALLEL, TWICE
from withstand.checker.check import check, claim_bounds
from withstand.checker.file import load, save
from withstand.checker.network import Network
from withstand.checker.reading import read_network
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Grade, Lower
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax, Linear
from withstand.core.registry import build, components
from withstand.core.rng import RowRandom
from withstand.core.sparse import L0
from withstand.graph.onnx_writer import write_onnx
from withstand.verification.certificates import certify_row, store_rows
from withstand.verification.memory import prove_within_memory
from withstand.verification.mend import certify
from withstand.verification.problem import Problem
from withstand.verification.proof import Proof, proofs_of, regions_of
from withstand.verification.search import search

CERTIFYING = {"ibp", "crown", "crown-ibp", "forward", "zonotope", "input-split"} | {"alpha-crown", "branch-and-bound"}
"""Verifiers that write certificates, at least."""

SIZES = [3, 12, 10, 3]


def posed(seed, threat, samples=3, dtype=torch.float32):
    """A random network as graph and as the checker reads it, a judge of its own answers, and their proofs."""
    graph = random_net(SIZES, seed, dtype)
    x0 = torch.rand(samples, SIZES[0], generator=torch.Generator().manual_seed(seed)).to(dtype)
    judge = Judge(graph, None, x0, graph(x0).argmax(1), threat, Argmax())
    network = read_network(write_onnx(graph))
    return graph, network, judge, proofs_of(network, threat, judge.property, x0, judge.y)


@pytest.mark.parametrize("threat", [Linf(0.02), L2(0.03), L1(0.04)], ids=str)
@pytest.mark.parametrize("name", components("verifier"))
def test_every_proof_of_a_verifier_that_writes_certificates_gets_one_that_checks(name, threat):
    proved = 0
    for seed in range(2):
        graph, network, judge, proofs = posed(seed, threat)
        search(judge, graph, [build("verifier", name)], Budget(20), proofs=proofs)
        begun = [proof.begun for proof in proofs]
        assert name not in CERTIFYING or all(begun)
        for row, proof in enumerate(proofs):
            if judge.status[row] is not Status.PROVED:
                continue
            found = certify_row(judge, row, proof)
            if not proof.begun:
                assert "writes no certificates" in found.reason
                continue
            assert found.certificate is not None, found.reason
            again = check(found.certificate, network)
            assert again.holds
            assert found.report is not None
            assert found.report.least == pytest.approx(again.least, abs=1e-12)
            assert judge.grade[row] is Grade.LEAVES
            assert proof.is_of(found.certificate)
            proved += 1
    assert proved >= 2 or name not in CERTIFYING


@pytest.mark.parametrize("seed", range(3))
def test_parallel_lines_over_twice_bounded_neurons_reach_the_zonotope(seed):
    graph = random_net([6, 20, 16, 3], seed, torch.float64)
    threat, x0, y = Linf(0.3), torch.full((1, 6), 0.5).double(), torch.zeros(1).long()
    network = read_network(write_onnx(graph))
    (proof,) = proofs_of(network, threat, Argmax(), x0, y)
    rows = Argmax().rows(y, 3, torch.float64)
    zonotope = lower_bound("zonotope", graph, threat, x0, rows)[0].numpy()
    found = {}
    for kind, slopes in ((ONCE, -1), (TWICE, -1), (TWICE, PARALLEL)):
        builder = proof.begin()
        root = np.full(2, builder.root())
        builder.anchor(root, kind)
        builder.claim(root, np.arange(2), None, np.full(2, slopes))
        found[kind, slopes] = claim_bounds(builder.certificate(), network)
    assert (found[TWICE, PARALLEL] >= zonotope - 1e-9).all()
    assert (found[TWICE, -1] != found[ONCE, -1]).any()
    assert (found[TWICE, -1] != found[TWICE, PARALLEL]).any()


@pytest.mark.parametrize("groups", [[1, 1, 1], [4], [2, 3, 1]], ids=str)
def test_input_split_is_certified_down_to_the_exact_margin(groups):
    """Rows whose least margin is known exactly: moved just below it they are certified, and just above they are not."""
    certified = 0
    for seed in range(2):
        graph, rows = random_net([2, 4, 3, 3], seed, torch.float64), random_rows(3, groups, seed)
        low, high = torch.full((2,), -1.0).double(), torch.full((2,), 1.0).double()
        least = exact_least_margin(graph, rows, low, high)
        network, x0, y = read_network(write_onnx(graph)), torch.zeros(1, 2).double(), torch.zeros(1).long()
        threat = Box(lower=low, upper=high)
        for gap in (0.02, -0.02):
            moved = Linear(rows.weight, rows.offset - least + gap, rows.group)
            judge = Judge(graph, None, x0, y, threat, moved)
            proofs = proofs_of(network, threat, moved, x0, y)
            search(judge, graph, [build("verifier", "input-split")], proofs=proofs)
            assert (judge.status[0] is Status.PROVED) == (gap > 0)
            if gap < 0:
                continue
            found = certify(proofs[0])
            assert found.certificate is not None, found.reason
            assert check(found.certificate, network).holds
            tighter = replace(found.certificate.rows, offset=found.certificate.rows.offset - 0.04)
            assert not check(replace(found.certificate, rows=tighter), network).holds
            certified += 1
    assert certified == 2


def test_a_search_takes_no_notice_of_its_certificates_where_none_are_wanted():
    graph, _, judge, proofs = posed(0, Linf(0.1))
    problem = Problem(graph, judge.x0, judge.y, judge.threat, judge.property)
    assert all(isinstance(e, object) for e in build("verifier", "input-split").prove(problem))
    assert not any(proof.begun for proof in proofs)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.2), L1(0.3), Linf(0.3, domain=(0.2, 0.7))], ids=str)
def test_regions_hold_what_membership_lets_in_and_little_more(threat):
    x0 = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)).clamp(*threat.domain)
    regions = regions_of(threat, x0)
    random = RowRandom(torch.arange(5))
    seen = 0
    for turn in range(200):
        x = threat.extreme(x0, random.normal((4,), x0.dtype)) if turn % 2 else threat.sample(x0, random)
        for region, point, inside in zip(regions, x.double().numpy(), threat.contains(x0, x).tolist(), strict=True):
            if not inside:
                continue
            seen += 1
            assert (region.low <= point).all()
            assert (point <= region.high).all()
            if region.centre is not None:
                order = 1 if region.norm == "l1" else 2
                assert np.linalg.norm(point - region.centre, order) <= region.radius
    assert seen > 500
    for region, centre in zip(regions, x0.double().numpy(), strict=True):
        assert (region.low >= np.maximum(centre - threat.reach, threat.domain[0]) - 1e-12).all()
        assert (region.high <= np.minimum(centre + threat.reach, threat.domain[1]) + 1e-12).all()
        assert region.radius <= threat.reach * (1 + 1e-11)


def test_edges_of_boxes_hold_the_decimals_that_were_written():
    from fractions import Fraction

    low, high = torch.tensor([[0.1, -0.3, 0.0], [0.7, 1e-3, 0.0]], dtype=torch.float64)
    region = regions_of(Box(lower=low, upper=high), torch.zeros(1, 3))[0]
    decimals = [(Fraction(1, 10), Fraction(7, 10)), (Fraction(-3, 10), Fraction(1, 1000)), (Fraction(0), Fraction(0))]
    for below, above, (first, last) in zip(region.low.tolist(), region.high.tolist(), decimals, strict=True):
        assert Fraction(below) <= first <= last <= Fraction(above)
    assert (region.low >= low.numpy() - 1e-15).all()


def test_threats_that_the_checker_does_not_know_are_refused_in_a_sentence():
    with pytest.raises(InputError, match="l0 have no certificates"):
        regions_of(L0(1), torch.rand(1, 4))


def hinge(most: float) -> tuple[Network, Proof]:
    """The claim that relu(z) - z / 2 stays above -most, z = x0 - x1 on the unit square, by its root alone, with 28
    inputs more. The least value is 0, and one line below the ReLU gives -1 / 2: its two sides have to be told apart."""
    weights = [torch.zeros(2, 30).double(), torch.tensor([[1.0, -0.5]]).double()]
    weights[0][:, :2] = torch.tensor([1.0, -1.0])
    graph = relu_net(weights, [torch.tensor([0.0, 2.0]).double(), torch.ones(1).double()])
    network, zero = read_network(write_onnx(graph)), torch.zeros(1).long()
    rows = Linear(torch.ones(1, 1).double(), torch.tensor([most]).double(), zero)
    threat = Box(lower=torch.zeros(30).double(), upper=torch.ones(30).double())
    (proof,) = proofs_of(network, threat, rows, torch.zeros(1, 30).double(), zero)
    builder = proof.begin()
    builder.claim(np.array([builder.root()]), np.zeros(1, int))
    return network, proof


def test_neurons_are_split_where_inputs_are_many():
    network, proof = hinge(0.01)
    assert not check(proof.builder.certificate(), network).holds
    found = certify(proof)
    assert found.certificate is not None, found.reason
    report = check(found.certificate, network)
    assert report.holds
    assert 0 < report.least[0] <= 0.01 + 1e-9
    assert (found.certificate.nodes.kind == NEURON_SPLIT).sum() == 1


def test_what_does_not_hold_gets_the_reason_and_no_certificate():
    _, proof = hinge(-0.01)
    found = certify(proof)
    assert found.certificate is None
    assert "parts" in found.reason or "no split" in found.reason


def test_a_limit_of_time_ends_the_work():
    _, proof = hinge(0.01)
    with Budget(1e-9).enforced():
        found = certify(proof)
    assert found.certificate is None
    assert "the time was over" in found.reason


def test_memory_that_runs_out_leaves_a_proof_without_certificate(monkeypatch):
    _, proof = hinge(0.01)
    monkeypatch.setattr("withstand.verification.mend.walk", lambda *told: (_ for _ in ()).throw(MemoryError()))
    assert certify(proof).reason == "memory ran out"


def test_a_claim_that_is_missing_below_a_cut_is_made():
    """A cut that knows nothing of a group proves it in no part of what it takes away; mending claims it there."""
    graph, rows = random_net([2, 6, 2], 3, torch.float64), random_rows(2, [1, 1], 5)
    threat = Box(lower=torch.full((2,), -1.0).double(), upper=torch.full((2,), 1.0).double())
    least = exact_least_margin(graph, rows, torch.full((2,), -1.0).double(), torch.full((2,), 1.0).double())
    moved = Linear(rows.weight, rows.offset - least + 0.05, rows.group)
    network, x0, y = read_network(write_onnx(graph)), torch.zeros(1, 2).double(), torch.zeros(1).long()
    proof = proofs_of(network, threat, moved, x0, y)[0]
    builder = proof.begin()
    root = np.array([builder.root()])
    builder.claim(root, np.array([0]))
    below = builder.cut(root)
    builder.claim(below, np.array([1]))
    found = certify(proof)
    assert found.certificate is not None, found.reason
    again = check(found.certificate, network)
    assert again.holds
    assert found.report is not None
    assert found.report.least == pytest.approx(again.least, abs=1e-12)


def test_the_judge_raises_the_grade_of_a_proof_and_never_lowers_it():
    _, _, judge, _ = posed(0, Linf(1e-4))
    one = torch.tensor([0])
    for grade, held in ((Grade.FLOAT32, Grade.FLOAT32), (Grade.LEAVES, Grade.LEAVES), (Grade.FLOAT64, Grade.LEAVES)):
        judge.hear(Lower(one, judge.clean[:1] / 2, grade), "crown")
        assert judge.grade[0] is held
    judge.hear(Lower(torch.tensor([1]), -judge.clean[:1], Grade.LEAVES), "crown")
    assert judge.status[1] is Status.UNKNOWN
    assert judge.grade[1] is None


def test_a_search_that_ran_out_of_memory_begins_afresh():
    graph, _, judge, proofs = posed(1, Linf(0.05), samples=1)

    class Forgetful(type(build("verifier", "input-split"))):  # type: ignore[misc]
        def prove(self, problem):
            for number, evidence in enumerate(super().prove(problem)):
                yield evidence
                if self.entries == 2_000_000 and number > 2:
                    raise MemoryError

    problem = Problem(graph, judge.x0, judge.y, judge.threat, judge.property, proofs)
    for evidence in prove_within_memory(Forgetful(), problem):
        judge.hear(evidence, "input-split")
    assert judge.status[0] is Status.PROVED
    certificate = proofs[0].builder.certificate()
    assert len(certificate.root) == 1
    assert certify(proofs[0]).certificate is not None


def test_several_rows_are_stored_in_a_folder_or_not_at_all(tmp_path):
    graph, network, judge, proofs = posed(2, Linf(0.01), samples=3)
    search(judge, graph, [build("verifier", "crown")], proofs=proofs)
    assert judge.status == [Status.PROVED] * 3
    stored = store_rows(judge, range(3), proofs, tmp_path / "all")
    assert stored.path == tmp_path / "all"
    files = sorted((tmp_path / "all").iterdir())
    assert [file.name for file in files] == ["1.safetensors", "2.safetensors", "3.safetensors"]
    assert all(check(load(file), network).holds for file in files)
    one = store_rows(judge, [1], proofs, tmp_path / "one")
    assert one.path == tmp_path / "one.safetensors"
    proofs[2].forget()
    none = store_rows(judge, range(3), proofs, tmp_path / "none")
    assert none.path is None
    assert none.reason == "no certificate of region 3 was stored: the method that proved it writes no certificates"
    assert not (tmp_path / "none").exists()
    save(load(files[0]), tmp_path / "copy")
    assert proofs[0].is_of(load(tmp_path / "copy"))
    assert not proofs[1].is_of(load(tmp_path / "copy"))


@pytest.mark.parametrize(("net", "prop"), [("1_1", 1), ("1_1", 3), pytest.param("3_3", 9, marks=pytest.mark.slow)])
def test_acas_xu(shared, tmp_path, net, prop):
    from withstand.verification.vnncomp import decide

    folder = shared / "vnncomp2021" / "acasxu"
    onnx = folder / f"ACASXU_run2a_{net}_batch_2000.onnx"
    answer = decide(onnx, folder / f"prop_{prop}.vnnlib", 60.0, certificate=tmp_path / "proof")
    assert answer.result == "unsat"
    assert answer.certificate == tmp_path / "proof.safetensors", answer.reason
    assert answer.certificate is not None
    report = check(answer.certificate, onnx)
    assert report.holds
    held = load(answer.certificate)
    assert held.nodes.anchor[0] == TWICE
    assert answer.certificate.stat().st_size < 60 * len(held.nodes) + 60 * len(held.claims) + 4000
