"""Verifiers that bound each question once."""

from collections.abc import Iterator

import torch

from withstand.bounds.margin import Method, lower_bound
from withstand.bounds.relax import Lower as LowerLine
from withstand.core.evidence import Evidence, Lower
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
        with torch.no_grad():
            bounds = lower_bound(method, part.graph, part.threat, part.x0, part.rows, lower=lower, memory_mb=memory_mb)
        yield Lower(rows, part.rows.combine(bounds), problem.grade)
