"""The largest radius that a verifier proves, for many samples at once, each asking about a radius of its own."""

import torch
from torch import Tensor

from withstand.core.budget import Budget
from withstand.core.evidence import Grade
from withstand.core.registry import describe
from withstand.graph.ir import Graph
from withstand.verification.bracket import Bracket
from withstand.verification.ends import Ends, numbered
from withstand.verification.nested import Nested
from withstand.verification.search import TIME_OVER, Verifier, search

SHARE = 0.25
"""Share of the time left that one round of questions may take."""


def narrow(
    ends: Ends,
    rows: Tensor,
    graph: Graph,
    verifier: Verifier,
    budget: Budget,
    misses: int | None = None,
) -> list[str]:
    """Raise the proved ends of samples `rows` [K] as far as the verifier can, to the tolerance of `ends`, and lower the
    refuted ones by the witnesses it meets. Returns what stopped it for every sample, "" where the ends met.

    Every round asks one question a sample still open, about a radius between the largest that holds and the smallest
    that does not (see `Bracket`). Rounds share what bounds over larger balls said of smaller ones (see `Nested`):
    boxes, and how far inside a ball its bounds hold. misses: a sample is left after so many radii that were not proved
    (none: no limit).
    """
    start, searches = ends.proved[rows], getattr(verifier, "searches", False)
    bracket = Bracket(start, ends.margin[rows], ends.upper[rows], ends.tolerance, ends.threat.rounded, searches)
    untried = ends.refuted[rows].isinf()
    nested = Nested(len(rows))
    missed, stopped = torch.zeros(len(rows), dtype=torch.long), [""] * len(rows)
    while not budget.spent:
        more = untried | ~bracket.done
        if misses is not None:
            more &= missed < misses
        places = (ends.open[rows] & more).nonzero().squeeze(1)
        if not len(places):
            break
        asked = rows[places]
        radii = torch.where(untried[places], torch.full_like(start[places], ends.largest), bracket.trial[places])
        untried[places] = False
        bound, reasons = _ask(ends, asked, radii, graph, verifier, budget, nested.pick(places))
        holds = ends.proved[asked] >= radii
        missed[places] += ~holds
        bracket.learn(places, radii, bound, holds)
        bracket.raise_low(places, ends.proved[asked])
        bracket.lower_high(places, ends.upper[asked])
        for place, reason in zip(places.tolist(), reasons, strict=True):
            stopped[place] = reason or stopped[place]
    left = ends.open[rows].tolist()
    late = budget.spent
    ended = f"{describe(verifier)} came to its end"
    return [(TIME_OVER if late else why or ended) if wide else "" for wide, why in zip(left, stopped, strict=True)]


def _ask(
    ends: Ends,
    rows: Tensor,
    radii: Tensor,
    graph: Graph,
    verifier: Verifier,
    budget: Budget,
    nested: Nested,
) -> tuple[Tensor, list[str]]:
    """One question a sample: the bounds on the margin [K], and what stopped the search."""
    judge = ends.judge(rows, radii)
    every = torch.arange(len(rows))
    shared = nested.ask(every, radii)
    with numbered(rows):
        verdicts = search(judge, graph, [verifier], budget.share(SHARE), nested=shared)
    ends.learn(rows, radii, judge)
    within, bound = shared.reached
    told = (within > 0).nonzero().squeeze(1)
    grade = Grade.FLOAT64 if ends.x0.dtype.itemsize == 8 else Grade.FLOAT32
    ends.learn_within(rows[told], within[told], bound[told], grade, describe(verifier))
    return judge.bound.double().cpu(), [verdict.reason for verdict in verdicts]
