"""Violations looked for in between by gradient descent, from where a search's bounds are least."""

from collections.abc import Iterator

import torch

from withstand.attacks.pgd import PGD
from withstand.core.box import Box
from withstand.core.evidence import Candidate, Evidence
from withstand.core.runner import run
from withstand.verification.dual import Ascent, bound
from withstand.verification.phases import PhaseTree

WORST = 16
"""Open domains, those of the least bounds, from whose points PGD walks."""

WALK = PGD(steps=20, step=0.05, start=False)
"""Short steps: the points are where the bounds say that violations may be near."""


def falsify(tree: PhaseTree) -> Iterator[Evidence]:
    """PGD over the whole region of a question, from the points where the worst open domains' rows are least.

    Regions that are no boxes are left to the attacks before.
    """
    if tree.pool is None or not len(tree.pool) or not tree.network.region.boxed:
        return
    held = tree.pool.held
    worst = held[held.bound.topk(min(WORST, len(held)), largest=False).indices]
    with torch.no_grad():
        points = bound(tree.network, worst.dual, worst.mix, Ascent(steps=0)).point
    problem, place = tree.problem, tree.place
    x0, y = problem.x0[place], problem.y[place]
    low, high = (end.reshape(x0.shape) for end in tree.network.region.box)
    start, targets = points.reshape(-1, *x0.shape), y.expand(len(points), *y.shape)
    found = run(WALK, problem.graph, start, targets, Box(lower=low, upper=high), problem.property)
    yield Candidate(torch.full((len(points),), tree.question), found.x)
