"""The margin at x0, less what a Lipschitz constant lets it fall by."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from withstand.core.evidence import Evidence, Lower
from withstand.core.registry import verifier
from withstand.core.shapes import flattened
from withstand.core.sparse import Sparse
from withstand.core.threat import Threat
from withstand.lipschitz.certified import NORMS, certified
from withstand.verification.bounding import CHUNK
from withstand.verification.problem import Problem

GROWTH = {"l2": 2, "linf": math.inf, "l1": 1}
"""The norm of a ball by the name of its threat."""


@verifier
class Lipschitz:
    """Let every row of the property fall by its Lipschitz constant times the radius (Tsuzuku et al. 2018,
    arXiv:1802.04034, with a constant for each pair of classes).

    The constants hold over all inputs, and are found once for a network: in l2 the least of AutoLip, ECLipsE-Fast and,
    on layers of at most 18 neurons, SeqLip; in linf and l1 AutoLip. A threat is measured in all three norms, and the
    one that proves most counts. Made for networks trained to have small constants; loose on others.
    """

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question. Raises InputError where the network has no constant over all inputs."""
        for chunk in torch.arange(len(problem), device=problem.x0.device).split(CHUNK):
            rows = chunk[problem.open[chunk]]
            if len(rows):
                part = problem.pick(rows)
                with torch.no_grad():
                    yield Lower(rows, part.rows.combine(_lowest(part)).to(problem.x0.dtype), problem.grade)


def _lowest(part: Problem) -> Tensor:
    """Lower bounds [B, R] of the rows' values over the threat, in float64."""
    low, high = part.threat.box(part.x0)
    start = part.x0 if part.threat.anchored else low / 2 + high / 2
    value = part.rows.value(part.graph(start)).double()
    away = torch.maximum((high - start).abs(), (start - low).abs()).double()
    known = certified(part.graph)
    different, which = part.rows.weight.double().flatten(0, 1).cpu().unique(dim=0, return_inverse=True)
    best = torch.full_like(value, -torch.inf)
    for p in NORMS:
        constants = known.rows(different, p)[which].reshape(value.shape).to(value)
        fall = constants * _reach(part.threat, part.x0, away, p)[:, None]
        best = torch.fmax(best, value - fall)
    return best


def _reach(threat: Threat, x0: Tensor, away: Tensor, p: float) -> Tensor:
    """How far [B] in the norm p the threat's points lie from the start at most, no coordinate further than `away`
    [B, *shape]."""
    flat = flattened(away)
    if isinstance(threat, Sparse) and p < math.inf:
        moved = threat.maps(away**p).sum(1, keepdim=True)
        return threat.most(moved)[:, 0] ** (1 / p)
    boxed = torch.linalg.vector_norm(flat, p, dim=1)
    if threat.norm not in ("l1", "l2"):
        return boxed
    radii = threat.reaches(flat)[:, 0]
    share = 1 / p - 1 / GROWTH[threat.norm]
    return torch.minimum(boxed, radii * flat.shape[1] ** max(share, 0.0))
