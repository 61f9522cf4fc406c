"""Every verifier on random networks of all operators and ranks: no crash, and no bound above a margin that was seen."""

import random

import pytest
import torch
from asking import Figures, draw_threat, fuzz
from networks import random_network

from withstand.core.registry import components

BATCH = 250
"""Networks of one test of the long part."""


def check(figures: Figures, networks: int) -> None:
    assert not figures.wrong, "\n".join(figures.wrong)
    assert figures.networks > 0.8 * networks
    asked = {name for name, _ in figures.verdicts}
    assert asked | {"lipschitz"} == set(components("verifier"))  # which may refuse all of a few networks
    assert {"proved", "refuted", "unknown"} <= {status for _, status in figures.verdicts}


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_verifiers_hold_on_random_networks(first):
    check(fuzz(first, first + 6, sparing=True), 6)


def test_the_network_of_which_a_quotient_was_taken_for_a_line():
    assert not fuzz(2569, 2570).wrong


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 6000, BATCH))
def test_verifiers_hold_on_thousands_of_random_networks(first):
    figures = fuzz(first, first + BATCH, sparing=True)
    print(figures)
    check(figures, BATCH)
    assert figures.exact > 0.25 * figures.questions


def test_the_networks_have_all_ranks_threats_and_operators():
    ranks, operators, threats = set(), set(), set()
    for seed in range(300):
        graph = random_network(seed).graph
        values = graph.trace(torch.zeros(1, *graph.input_shape))
        ranks |= {("input", len(graph.input_shape))} | {("value", value.dim() - 1) for value in values.values()}
        operators |= {node.op for node in graph.nodes}
        threats.add(draw_threat(random.Random(seed), torch.zeros(2, *graph.input_shape))[0].norm)
    assert {(kind, rank) for kind in ("input", "value") for rank in range(5)} <= ranks
    assert threats == {"linf", "l2", "l1", "box"}
    assert len(operators) >= 40
