"""Every proof of branch and bound and of alpha-CROWN gives a certificate that the independent checker accepts."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from tiny import finished, random_net, random_rows
from varied import made, normal

from withstand.checker.certificate import NEURON_SPLIT
from withstand.checker.check import check
from withstand.checker.reading import read_network
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget, check_time
from withstand.core.errors import InputError
from withstand.core.evidence import Grade
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax
from withstand.core.rng import RowRandom
from withstand.graph.ir import Graph, Node
from withstand.graph.onnx_writer import write_onnx
from withstand.io.vnnlib import read_vnnlib
from withstand.verification import phases, reprove
from withstand.verification.cases import gather
from withstand.verification.certificates import certify_row
from withstand.verification.dual import bound
from withstand.verification.methods.alpha_crown import AlphaCrown
from withstand.verification.methods.branch_and_bound import BranchAndBound
from withstand.verification.network import read_network as network_of
from withstand.verification.numbering import numbers
from withstand.verification.phases import plant
from withstand.verification.problem import Problem
from withstand.verification.proof import proofs_of
from withstand.verification.search import search


def certified(graph, file, threat, x0, y, property, method=None):
    """Which questions were proved, and the report and certificate of each of these."""
    network = read_network(file)
    proofs = proofs_of(network, threat, property, x0, y)
    judge = Judge(graph, None, x0, y, threat, property)
    verdicts = search(judge, graph, [method or BranchAndBound()], proofs=proofs)
    proved = [k for k, verdict in enumerate(verdicts) if verdict.status is Status.PROVED]
    written = [proofs[k] for k in proved if proofs[k].begun]
    for proof in written:
        proof.finish()
    return [(check(c := proof.builder.certificate(), network), c) for proof in written]


def questions(graph, threat_of, gap, seeds):
    """Random groups of rows around random points, whose least margin among samples is `gap` of the margins' range."""
    file = write_onnx(graph)
    for seed in seeds:
        x0 = torch.rand(1, *graph.input_shape, generator=torch.Generator().manual_seed(seed)).double()
        threat, property, y = threat_of(x0), random_rows(3, [2, 1], seed), torch.zeros(1, dtype=torch.long)
        x = threat.sample(x0.expand(2000, *x0.shape[1:]), RowRandom(torch.arange(2000)))
        margin = property.margin(graph(x), y.expand(2000))
        shift = gap * (margin.max() - margin.min()) - margin.min()
        yield graph, file, threat, x0, y, replace(property, offset=property.offset + shift)


def convolutional(seed: int) -> Graph:
    """Two convolutions with ReLU and two dense layers."""
    draw = normal(seed)
    conv = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    constants = {"k": draw(3, 1, 3, 3) / 3, "kb": draw(3) / 3, "l": draw(2, 3, 3, 3) / 4, "lb": draw(2) / 3}
    constants |= {"w": draw(6, 32) / 5, "b": draw(6) / 3, "v": draw(3, 6) / 2}
    nodes = [
        Node("c", "conv", ("x", "k", "kb"), conv),
        Node("r", "relu", ("c",)),
        Node("d", "conv", ("r", "l", "lb"), conv),
        Node("s", "relu", ("d",)),
        Node("f", "reshape", ("s",), {"shape": (32,)}),
        Node("z", "linear", ("f", "w", "b")),
        Node("t", "relu", ("z",)),
        Node("y", "linear", ("t", "v")),
    ]
    return made(nodes, constants, (1, 4, 4), 3)


NETS = {
    "wide": (random_net([4, 10, 8, 3], 1), 0.2, 0.2),
    "deep": (random_net([3, 8, 8, 8, 3], 4), 0.3, 0.2),
    "conv": (convolutional(3), 0.1, 0.5),
}
"""Networks, radii and gaps at which some questions need splits."""

THREATS = {
    "linf": lambda size: lambda x0: Linf(size),
    "box": lambda size: lambda x0: Box(lower=x0 - size / 2, upper=x0 + size),
    "l2": lambda size: lambda x0: L2(size),
    "l1": lambda size: lambda x0: L1(1.5 * size),
}


@pytest.mark.parametrize("norm", THREATS)
@pytest.mark.parametrize("method", [BranchAndBound(effort=0.01), AlphaCrown()], ids=["bab", "alpha"])
def test_all_proofs_about_random_networks_are_certified(norm, method):
    told = 0
    for graph, size, gap in NETS.values():
        for question in questions(graph, THREATS[norm](size), gap, range(3)):
            for report, _ in certified(*question, method):
                assert report.holds, report.sentence
                told += 1
    assert told >= 3


@pytest.mark.parametrize(("op", "attrs"), [("tanh", {}), ("leaky_relu", {"slope": 0.1}), ("softplus", {})])
def test_proofs_about_other_functions_are_certified(op, attrs):
    plain, told = random_net([3, 6, 6, 3], 1), 0
    nodes = [Node(n.name, op, n.inputs, attrs) if n.op == "relu" else n for n in plain.nodes]
    graph = made(nodes, plain.constants, plain.input_shape, 3)
    for norm in ("linf", "l2"):
        for question in questions(graph, THREATS[norm](0.5), 0.1, range(2)):
            for report, _ in certified(*question, BranchAndBound(effort=0.01)):
                assert report.holds, report.sentence
                told += report.leaves
    assert told > 4


@pytest.mark.parametrize("few", [-1e9, 1e9], ids=["anchors", "splits"])
def test_claims_of_a_search_that_is_too_sure_are_proved_anew(monkeypatch, few):
    monkeypatch.setattr(reprove, "FEW", few)
    monkeypatch.setattr(phases, "bound", lambda *all: replace(found := bound(*all), bound=found.bound + 0.5))
    anchors, claims = 0, 0
    for norm, name in product(THREATS, ("wide", "deep")):
        graph, size, gap = NETS[name]
        for _, file, threat, x0, y, property in questions(graph, THREATS[norm](size), gap, range(2)):
            network = read_network(file)
            (proof,) = proofs_of(network, threat, property, x0, y)
            problem = Problem(graph, x0, y, threat, property, [proof])
            for tree in finished(plant(problem)):
                while not tree.done:
                    list(tree.step())
            proof.finish()
            report = check(proof.builder.certificate(), network)
            assert report.holds, report.sentence
            anchors, claims = anchors + report.anchors - 2, claims + report.claims - 2
    assert claims > 10
    assert anchors > 3 if few < 0 else anchors == 0


def test_a_proof_is_told_before_its_certificate_and_whatever_time_that_takes(monkeypatch):
    graph, size, gap = NETS["wide"]
    (asked,) = questions(graph, THREATS["linf"](size), gap, [0])
    _, file, threat, x0, y, property = asked
    proofs = proofs_of(read_network(file), threat, property, x0, y)
    judge, begun = Judge(graph, None, x0, y, threat, property), []

    def endless(*told):
        begun.append(told)
        while True:
            check_time()

    monkeypatch.setattr(phases, "certify", endless)
    search(judge, graph, [BranchAndBound()], Budget(60), proofs=proofs)
    assert judge.status == [Status.PROVED]
    assert not begun
    with Budget(0.1).enforced():
        assert "the time was over" in certify_row(judge, 0, proofs[0]).reason
    assert len(begun) == 1
    assert judge.status == [Status.PROVED]
    assert judge.grade == [Grade.FLOAT64]


def mnist(shared, index):
    data = np.load(shared / "data" / "mnist.npz")
    x = torch.from_numpy(data["x_test"][index : index + 1]).float().reshape(1, 1, 28, 28) / 255
    return x, torch.from_numpy(data["y_test"][index : index + 1]).long()


@pytest.mark.parametrize("index", [326, 550, 689])
def test_images_that_need_splits_are_certified(shared, index):
    path = shared / "models" / "mnist-wk17a-0.1.onnx"
    graph, (x0, y) = network_of(path).graph, mnist(shared, index)
    ((report, certificate),) = certified(graph, path, Linf(0.1), x0, y, Argmax())
    assert report.holds, report.sentence
    assert (certificate.nodes.kind == NEURON_SPLIT).any()


@pytest.mark.parametrize("name", ["prop_0_0.03", "prop_6_0.05", pytest.param("prop_1_0.03", marks=pytest.mark.slow)])
def test_contest_questions_are_certified(shared, name):
    folder = shared / "vnncomp2021" / "mnistfc"
    path = folder / "mnist-net_256x2.onnx"
    graph = network_of(path).graph
    threat, property = gather(read_vnnlib(folder / f"{name}.vnnlib", graph.input_shape, 10))
    assert threat.lower is not None
    assert threat.upper is not None
    x0 = threat.project(*[((threat.lower + threat.upper) / 2).float()] * 2)
    ((report, certificate),) = certified(graph, path, threat, x0, torch.arange(1), property)
    assert report.holds, report.sentence
    assert (certificate.nodes.kind == NEURON_SPLIT).any()


def test_neurons_are_found_whatever_their_order():
    graph = random_net([4, 7, 5, 3], 0)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    constants = graph.constants
    constants |= {"w0": constants["w0"][order], "b0": constants["b0"][order], "w1": constants["w1"][:, order]}
    nodes, ends = list(graph.nodes), (graph.input_shape, graph.output_shape)
    other = Graph(nodes, constants, input="x", output=graph.output, input_shape=ends[0], output_shape=ends[1])
    found = numbers(graph, read_network(write_onnx(other)))
    assert found["a0"].tolist() == order.argsort().tolist()
    assert found["a1"].tolist() == list(range(7, 12))


def test_a_network_that_is_another_one_is_refused():
    with pytest.raises(InputError, match="no activation like 'a0'"):
        numbers(random_net([4, 7, 5, 3], 0), read_network(write_onnx(random_net([4, 7, 5, 3], 1))))
