"""The radius that branch and bound over phases proves before it is done: its open domains, read over smaller balls."""

from dataclasses import replace

import torch
from torch import Tensor

from withstand.bounds.inner import widest
from withstand.verification.dual import lowered, lowest
from withstand.verification.phases import Domains, PhaseTree

CHUNK = 512
"""Domains read together."""


@torch.no_grad()
def tell_reach(tree: PhaseTree) -> None:
    """Tell the questions of other radii how far inside its ball a search has proved its property so far.

    Domains done with hold on all of the ball. The lines of an open one are above the level up to some radius, and the
    least of these radii is proved: one pass for all open domains, where each has cost dozens.
    """
    problem, pool = tree.problem, tree.pool
    if problem.nested is None or pool is None or not len(pool) or tree.floor <= tree.level:
        return
    if pool.held.dual.low.shape[1] != len(tree.network.low):
        return  # the neurons have changed since; the bounds of the rows are made again
    nested = problem.nested.pick(torch.tensor([tree.place]))
    radius, bound = nested.radii, min(tree.floor, torch.inf)
    level = torch.tensor([tree.level], dtype=torch.float64)
    for first in range(0, len(pool), CHUNK):
        domains = pool.held[slice(first, first + CHUNK)]
        radius, value = widest(_Least(tree, domains), radius, level)
        bound = min(bound, float(value))
        if not float(radius):
            return
    nested.reach(radius, torch.tensor([bound], dtype=torch.float64))


class _Least:
    """The least bound of some domains as a function of the radius [1]: [1]."""

    def __init__(self, tree: PhaseTree, domains: Domains) -> None:
        self.went = lowered(tree.network, domains.dual, domains.mix)
        self.region = tree.network.region

    def __call__(self, radius: Tensor) -> Tensor:
        region = replace(self.region, threat=self.region.threat.at(radius))
        return lowest(self.went, region).min()[None]
