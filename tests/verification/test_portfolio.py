"""The choice of verifiers, and the sentence that says why."""

import torch
from tiny import random_net

from withstand.core.balls import L2, Linf
from withstand.core.registry import build
from withstand.graph.ir import Graph, Node
from withstand.verification.portfolio import portfolio


def test_few_inputs_are_split():
    chosen = portfolio(random_net([5, 8, 3], 0), Linf(0.1), timed=True)
    assert chosen.verifiers == ("crown", "input-split")
    assert "5 inputs" in chosen.why


def test_many_inputs_have_their_neurons_split_and_an_end_where_no_time_is_set():
    graph = random_net([30, 8, 3], 0)
    timed, free = (portfolio(graph, Linf(0.1), timed=t) for t in (True, False))
    assert timed.verifiers[-1] == "branch-and-bound"
    assert free.verifiers[-1] == "branch-and-bound:effort=5"
    assert "relu" in free.why
    assert all(build("verifier", text) for text in (*timed.verifiers, *free.verifiers))


def test_balls_of_few_inputs_have_their_neurons_split():
    assert "branch-and-bound" in portfolio(random_net([5, 8, 3], 0), L2(0.1), timed=True).verifiers


def test_an_affine_network_needs_one_bound():
    graph = Graph(
        [Node("y", "linear", ("x", "w", "b"))],
        {"w": torch.eye(3), "b": torch.zeros(3)},
        input="x",
        output="y",
        input_shape=(3,),
        output_shape=(3,),
    )
    assert portfolio(graph, Linf(0.1), timed=False).verifiers == ("crown",)
