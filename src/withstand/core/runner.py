"""Runs any generator attack: owns model calls, gradients, budgets, counts, the best point and the early stop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from withstand.core.attack import Attack, Search, check_fit, misfit, roams
from withstand.core.budget import Budget
from withstand.core.chunk import Chunk
from withstand.core.errors import InputError
from withstand.core.found import Found
from withstand.core.oracle import TILE, Access, ModelRaised, Oracle
from withstand.core.property import Argmax, Property
from withstand.core.registry import describe
from withstand.core.rng import row_seeds
from withstand.core.threat import Threat

__all__ = ["TILE", "Access", "Attack", "Found", "ModelRaised", "Search", "run"]

LEAD = 1e-5
"""By how much, as a share of the outputs' size, the nearest violations violate: more than float32 rounds."""


def run(
    attack: Attack,
    model: Callable[[Tensor], Tensor],
    x0: Tensor,
    y: Tensor,
    threat: Threat,
    property: Property | None = None,
    *,
    ids: Iterable[int] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    access: Access = Access.GRADIENT,
    batch: int = 256,
    probes: int = 20,
    surrogate: Callable[[Tensor], Tensor] | None = None,
    draws: int = 1,
    closest: bool = False,
) -> Found:
    """Attack every row of x0 [N, *shape] with targets y [N] and return the best point found for each.

    model: a function from a batch to outputs. property: argmax unless given. ids: the samples' numbers in the data,
    which seed their random streams (0, 1, ... unless given). budget: no limit unless given; the clean pass is always
    made, after that no row is asked about that its queries or, at the pace of the asks before it, the time would
    overrun, and a function is not asked about rows that fill up a batch. access: `scores` answers gradients by an
    antithetic Gaussian estimate of `probes` pairs (Salimans et al. 2017, arXiv:1703.03864; 20 pairs as Ilyas et al.
    2018), probing only inside the domain. surrogate: a model the attack sees instead; its points count by what `model`
    says. draws: answers averaged of a random model. batch: rows evaluated together; it does not change results.
    closest: do not stop at a violation but let the attack go on to the nearest one; see `withstand.core.closest`, which
    serves every attack.

    Rows wrong at x0 are not attacked. In a box, x0 is but a point to start from: it is moved into the box, and a row
    violated there is refuted. Raises InputError when the attack does not work in the threat's norm or needs more than
    the access shows, and ModelRaised, which names the sample, when the model raises.
    """
    property = Argmax() if property is None else property
    check_fit(attack, threat.norm, property.losses, access, surrogate)
    numbers = list(range(len(x0)) if ids is None else ids)
    if not len(numbers) == len(y) == len(x0):
        raise InputError(f"There are {len(x0)} inputs, {len(y)} targets and {len(numbers)} ids; give as many of each.")
    budget = budget or Budget()
    foreign = getattr(model, "foreign", not isinstance(model, nn.Module))
    counted = getattr(model, "opaque", False) or (budget.queries is not None and foreign)
    oracle = Oracle(model, property, threat, access, probes, surrogate, draws, counted=counted)
    found = _run(attack, oracle, _Samples(x0, y, numbers), budget, seed, batch, closest)
    further = _escalation(attack, found)
    if further is None or misfit(further, threat.norm, property.losses) is not None or budget.spent:
        return found
    rest = ~found.refuted & (found.clean_margin > 0)
    if budget.queries is not None:
        rest &= found.queries + draws <= budget.queries
    rows = rest.nonzero().squeeze(1)
    samples = _Samples(x0[rows], y[rows], [numbers[i] for i in rows.tolist()], found.queries[rows])
    if len(rows) == 0:
        return found
    later = _run(further, oracle.pick(rows, x0), samples, budget.share(1.0), seed, batch, closest)
    return found.then(rows, later)


@dataclass(frozen=True)
class _Samples:
    """Inputs x0 [N, *shape] with targets y [N], their numbers in the data, and the queries [N] they have cost (None:
    none)."""

    x0: Tensor
    y: Tensor
    ids: list[int]
    spent: Tensor | None = None


def _run(
    attack: Attack, oracle: Oracle, samples: _Samples, budget: Budget, seed: int, batch: int, closest: bool
) -> Found:
    """Drive an attack over the samples, batch by batch."""
    x0, y = samples.x0, samples.y
    seeds = row_seeds(seed, samples.ids, describe(attack)).to(x0.device)
    if attack.access is Access.LABELS:
        oracle = replace(oracle, access=Access.LABELS)
    if closest and oracle.access is not Access.LABELS:
        oracle = replace(oracle, lead=LEAD)
    parts: list[Found] = []
    for rows in torch.arange(len(x0), device=x0.device).split(batch):
        try:
            chunk = Chunk(oracle.pick(rows, x0), x0[rows], y[rows], seeds[rows], budget, closest, roams(attack))
            chunk.spent = 0 if samples.spent is None else samples.spent[rows]
            parts.append(chunk.drive(attack))
        except ModelRaised as raised:
            at = int(rows[raised.row])
            raise ModelRaised(at, raised.error, samples.ids[at]) from raised
    return Found.join(parts)


def _escalation(attack: Attack, found: Found) -> Attack | None:
    """The attack that an attack wants run on what it left, because of what it saw; None for most."""
    escalate = getattr(attack, "escalate", None)
    return None if escalate is None else escalate(found)
