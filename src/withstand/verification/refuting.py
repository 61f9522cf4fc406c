"""The smallest radius that an attack refutes, for many samples at once, each attacked at a radius of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.core.attack import Attack, is_minimal
from withstand.core.budget import Budget
from withstand.core.registry import describe
from withstand.core.runner import run
from withstand.verification.ends import Ends


def refute(ends: Ends, rows: Tensor, ids: Sequence[int], attack: Attack, budget: Budget, seed: int = 0) -> None:
    """Lower the refuted ends of samples `rows` [K], numbers `ids` in the data, as far as an attack can.

    One that looks for the nearest violation runs once, at whatever radius. Any other is asked by bisection between the
    radius proved and the one refuted (or the largest), until those that it refutes and those that it does not are as
    close as the tolerance of `ends`: a radius that it does not refute may still hold a violation.
    """
    if is_minimal(attack):
        free = torch.full((len(rows),), torch.inf, dtype=torch.float64)
        _attack(ends, rows, free, ids, attack, budget, seed, closest=True)
        return
    missed, untried = ends.proved[rows], ends.refuted[rows].isinf()
    for step in range(64):
        gap = ends.upper[rows] - missed
        middle = torch.where(untried, torch.full_like(gap, ends.largest), ends.threat.rounded(missed + gap / 2))
        worth = ends.open[rows] & (untried | ((gap > ends.tolerance * ends.upper[rows]) & (middle > missed)))
        places = worth.nonzero().squeeze(1)
        if budget.spent or not len(places):
            return
        untried[places] = False
        some = [ids[place] for place in places.tolist()]
        _attack(ends, rows[places], middle[places], some, attack, budget, seed + step)
        held = places[ends.refuted[rows[places]] > middle[places]]
        missed[held] = torch.maximum(missed[held], middle[held])


def _attack(
    ends: Ends,
    rows: Tensor,
    radii: Tensor,
    ids: Sequence[int],
    attack: Attack,
    budget: Budget,
    seed: int,
    closest: bool = False,
) -> None:
    on = rows.to(ends.x0.device)
    x0, y, threat = ends.x0[on], ends.y[on], ends.threat.at(radii)
    found = run(attack, ends.model, x0, y, threat, ends.property, ids=ids, seed=seed, budget=budget, closest=closest)
    ends.attacked[rows] |= found.looked().to(rows.device)
    hit = found.refuted.nonzero().squeeze(1)
    ends.learn_points(rows[hit.to(rows.device)], found.x[hit], describe(attack))
