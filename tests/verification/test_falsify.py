"""Violations that gradient descent finds from the worst open domains."""

import torch
from tiny import random_net, random_rows

from withstand.core.balls import L2
from withstand.core.box import Box
from withstand.core.evidence import Candidate
from withstand.verification.falsify import falsify
from withstand.verification.phases import plant
from withstand.verification.problem import Problem


def open_trees(graph, threat, x0, property):
    """The searches after the first bounds, whatever candidates they had."""
    steps = plant(Problem(graph, x0, torch.zeros(len(x0), dtype=torch.long), threat, property))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return [tree for tree in end.value if not tree.done]


def test_it_finds_most_violations_and_stays_in_the_region():
    found, possible = 0, 0
    for seed in range(40):
        graph, property = random_net([4, 10, 8, 2], seed), random_rows(2, [2], seed)
        low = torch.rand(4, generator=torch.Generator().manual_seed(seed)).double()
        threat = Box(lower=low, upper=low + 0.7)
        points = low + 0.7 * torch.rand(5000, 4, generator=torch.Generator().manual_seed(seed)).double()
        sampled = float(property.margin(graph(points), torch.zeros(5000, dtype=torch.long)).min())
        for tree in open_trees(graph, threat, low[None] + 0.35, property):
            (evidence,) = falsify(tree)
            assert isinstance(evidence, Candidate)
            assert threat.contains((low[None] + 0.35).expand_as(evidence.x), evidence.x).all()
            least = float(property.margin(graph(evidence.x), torch.zeros(len(evidence.x), dtype=torch.long)).min())
            possible += sampled < 0
            found += sampled < 0 and least <= 0
    assert possible >= 5
    assert found >= 0.8 * possible


def test_balls_are_left_to_the_attacks():
    x0, trees = torch.full((1, 4), 0.5).double(), []
    for seed in range(20):
        trees += open_trees(random_net([4, 10, 8, 2], seed), L2(0.7), x0, random_rows(2, [2], seed))
    assert trees
    assert [list(falsify(tree)) for tree in trees] == [[] for _ in trees]
