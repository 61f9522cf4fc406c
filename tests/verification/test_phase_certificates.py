"""Every proof of branch and bound and of alpha-CROWN gives a certificate that the independent checker accepts."""

import pytest
import torch
from tiny import random_net
from varied import made, normal

from withstand.checker.certificate import NEURON_SPLIT
from withstand.checker.check import check
from withstand.checker.reading import read_network
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax
from withstand.graph.ir import Graph, Node
from withstand.graph.onnx_writer import write_onnx
from withstand.verification.methods.alpha_crown import AlphaCrown
from withstand.verification.methods.branch_and_bound import BranchAndBound
from withstand.verification.proof import proofs_of
from withstand.verification.search import search


def certified(graph, file, threat, x0, y, property, method=None):
    """Which questions were proved, and the report and certificate of each of these."""
    network = read_network(file)
    proofs = proofs_of(network, threat, property, x0, y)
    judge = Judge(graph, None, x0, y, threat, property)
    verdicts = search(judge, graph, [method or BranchAndBound()], proofs=proofs)
    proved = [k for k, verdict in enumerate(verdicts) if verdict.status is Status.PROVED]
    certificates = [proofs[k].builder.certificate() for k in proved if proofs[k].begun]
    return [(check(c, network), c) for c in certificates]


def random_questions(graph, threat_of, seeds):
    """Questions about random points and rows whose margin there is large enough to be proved now and then."""
    file = write_onnx(graph)
    for seed in seeds:
        x0 = torch.rand(4, *graph.input_shape, generator=torch.Generator().manual_seed(seed)).double()
        y = graph(x0).argmax(1)
        yield graph, file, threat_of(x0), x0, y, Argmax()


THREATS = {
    "linf": lambda x0: Linf(0.15),
    "l2": lambda x0: L2(0.25),
    "l1": lambda x0: L1(0.4),
    "box": lambda x0: Box(lower=x0 - 0.1, upper=x0 + 0.2),
}


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


@pytest.mark.parametrize("norm", THREATS)
@pytest.mark.parametrize("method", [BranchAndBound(), AlphaCrown()], ids=["bab", "alpha"])
def test_all_proofs_about_random_networks_are_certified(norm, method):
    told, splits = 0, 0
    graphs = [random_net([4, 8, 8, 3], 1), random_net([3, 6, 6, 6, 6, 3], 2), convolutional(3)]
    for graph in graphs:
        for question in random_questions(graph, THREATS[norm], range(4)):
            for report, certificate in certified(*question, method):
                assert report.holds, report.sentence
                told += 1
                splits += int((certificate.nodes.kind == NEURON_SPLIT).sum())
    assert told >= 8
    assert splits > 20 or isinstance(method, AlphaCrown)
