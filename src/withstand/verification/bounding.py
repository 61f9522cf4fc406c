"""Verifiers that bound each question once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from withstand.bounds.margin import Bounds, Method, prepare
from withstand.bounds.relax import Lower as LowerLine
from withstand.core.evidence import Evidence, Lower
from withstand.core.judge import needed
from withstand.verification.nested import Nested
from withstand.verification.problem import Problem

CHUNK = 32
"""Questions bounded together; the search may stop in between."""


def bound_rows(method: Method, problem: Problem, memory_mb: float, lower: LowerLine = "adaptive") -> Iterator[Evidence]:
    """Bounds by a method of `withstand.bounds` for the questions still open, some at a time."""
    for chunk in torch.arange(len(problem), device=problem.x0.device).split(CHUNK):
        rows = chunk[problem.open[chunk]]
        if not len(rows):
            continue
        part = problem.pick(rows)
        known = None if part.nested is None else part.nested.known
        with torch.no_grad():
            found = prepare(method, part.graph, part.threat, part.x0, lower=lower, memory_mb=memory_mb, known=known)
            bound = part.rows.combine(found.lower(part.rows))
            if part.nested is not None and isinstance(found, Bounds):
                _look_within(part, part.nested, found, bound)
        yield Lower(rows, bound, problem.grade)


def _look_within(part: Problem, nested: Nested, found: Bounds, bound: Tensor) -> None:
    """Where bounds prove nothing at a radius, keep the boxes, and tell at which smaller radius the lines prove it."""
    level = 2 * needed(part.grade, part.graph(part.x0)).to(bound)
    short = bound <= level
    nested.keep(found.boxes, short)
    rows = short.nonzero().squeeze(1)
    own = Bounds(found.relaxation.select(rows), found.memory_mb)
    if len(rows) and not own.relaxation.affine_only:
        nested.pick(rows).reach(*own.within(part.rows[rows], nested.radii[rows], level[rows].double()))
