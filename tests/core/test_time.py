"""Work that is left off in the middle when its time is over."""

import time
from dataclasses import dataclass

import pytest
import torch

from withstand.bounds import lower_bound
from withstand.core.balls import Linf
from withstand.core.budget import Budget, TimeOver, check_time
from withstand.core.evidence import Grade, Lower
from withstand.core.judge import Judge, Status
from withstand.core.property import Argmax, Linear
from withstand.graph.ir import Graph, Node
from withstand.verification.search import TIME_OVER, search


def convolution() -> Graph:
    step = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    nodes = [
        Node("a", "conv", ("x", "w"), step),
        Node("b", "tanh", ("a",)),
        Node("c", "conv", ("b", "v"), step),
        Node("d", "relu", ("c",)),
        Node("y", "sum", ("d",), {"dims": (2, 3), "keepdim": False}),
    ]
    constants = {"w": torch.ones(2, 1, 3, 3), "v": torch.ones(2, 2, 3, 3)}
    return Graph(nodes, constants, input="x", output="y", input_shape=(1, 8, 8), output_shape=(2,))


@pytest.mark.parametrize("method", ["crown", "crown-ibp", "forward", "zonotope"])
def test_bounds_are_left_off_when_the_time_is_over(method):
    x0, rows = torch.zeros(1, 1, 8, 8), Argmax().rows(torch.zeros(1, dtype=torch.long), 2, torch.float32)
    with pytest.raises(TimeOver), Budget(1e-9).enforced():
        lower_bound(method, convolution(), Linf(0.1), x0, rows)
    with Budget(60).enforced():
        lower_bound(method, convolution(), Linf(0.1), x0, rows)
    lower_bound(method, convolution(), Linf(0.1), x0, rows)


def test_the_earlier_of_two_ends_counts_and_ends_with_its_block():
    early = Budget(0.01)
    with early.enforced():
        with Budget(60).enforced(), Budget().enforced():
            time.sleep(0.02)
            with pytest.raises(TimeOver):
                check_time()
        with pytest.raises(TimeOver):
            check_time()
    check_time()


def test_a_search_left_off_in_the_middle_keeps_what_it_had():
    @dataclass(frozen=True)
    class Slow:
        def prove(self, problem):
            yield Lower(torch.tensor([0]), torch.tensor([-2.0]), Grade.FLOAT32)
            while True:
                time.sleep(0.01)
                check_time()

    graph, x0 = convolution(), torch.zeros(1, 1, 8, 8)
    positive = Linear(torch.eye(2)[:1], torch.ones(1), torch.tensor([0]))
    judge = Judge(graph, None, x0, torch.zeros(1), Linf(0.1), positive)
    (verdict,) = search(judge, graph, [Slow()], Budget(0.1))
    assert (verdict.status, verdict.bound, verdict.reason) == (Status.UNKNOWN, -2.0, TIME_OVER)
