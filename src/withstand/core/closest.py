"""The nearest violation, by any attack: by its own search if it is minimal, else by bisection on the radius."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from withstand.core.attack import is_minimal
from withstand.core.budget import Budget
from withstand.core.property import Property
from withstand.core.runner import Access, Attack, Found, run
from withstand.core.threat import Threat

STEPS = 10
"""Radii that bisection tries for each row: enough to know the distance to about 1 % where the first guess is within a
factor of four."""


def closest(
    attack: Attack,
    model: Callable[[Tensor], Tensor],
    x0: Tensor,
    y: Tensor,
    threat: Threat,
    property: Property | None = None,
    *,
    ids: list[int] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    batch: int = 256,
    steps: int = STEPS,
    access: Access = Access.GRADIENT,
    surrogate: Callable[[Tensor], Tensor] | None = None,
    draws: int = 1,
) -> Found:
    """For every row of x0 [N, *shape], the violation nearest to it: `Found.x` at `Found.distance` (infinite: none).

    threat: gives norm and domain; distances are not limited by its radius, from which bisection starts. budget: its
    queries are shared equally among the radii. Other parameters as in `withstand.core.runner.run`.
    """
    budget = budget or Budget()
    ids = list(range(len(x0))) if ids is None else ids
    search = partial(run, attack, model, x0, y, property=property, ids=ids, batch=batch)
    search = partial(search, access=access, surrogate=surrogate, draws=draws)
    if is_minimal(attack):
        return search(threat=threat.at(torch.inf), seed=seed, budget=budget, closest=True)
    if budget.queries is not None:
        steps = max(1, min(steps, budget.queries // draws))
    share = None if budget.queries is None else budget.queries // steps
    low = x0.new_zeros(len(x0))
    high = torch.full_like(low, torch.inf)
    radius = torch.full_like(low, threat.radius if threat.radius > 0 else 0.1)
    held: Found | None = None
    for step in range(steps):
        part = budget.share(1 / (steps - step), share)
        found = search(threat=threat.at(radius), seed=seed + step, budget=part)
        hit = found.refuted
        high = torch.where(hit, torch.minimum(high, found.distance.to(high)), high)
        low = torch.where(hit, low, torch.maximum(low, radius))
        radius = torch.where(high < torch.inf, (low + high) / 2, 2 * low)
        held = found if held is None else held.then(torch.arange(len(x0), device=x0.device), found)
    assert held is not None
    return held
