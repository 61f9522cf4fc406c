"""Verifiers that bound each question once."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from withstand.bounds.margin import Bounds, Method, prepare
from withstand.bounds.relax import Lower as LowerLine
from withstand.checker.certificate import PARALLEL, TWICE
from withstand.core.evidence import Evidence, Lower
from withstand.core.judge import needed
from withstand.core.property import Rows
from withstand.verification.nested import Nested
from withstand.verification.problem import Problem
from withstand.verification.proof import Proof

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
            bounds = found.lower(part.rows)
            bound = part.rows.combine(bounds)
            if part.nested is not None and isinstance(found, Bounds):
                _look_within(part, part.nested, found, bound)
        if part.proofs is not None:
            _claim(part.proofs, part.rows, bounds, PARALLEL if method == "zonotope" else -1)
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


def _claim(proofs: Sequence[Proof], rows: Rows, bounds: Tensor, slopes: int) -> None:
    """A certificate of one part for each question, each group claimed by its best row."""
    groups = int(rows.group.max()) + 1
    members = [(rows.group == number).nonzero().squeeze(1) for number in range(groups)]
    weights = np.zeros((len(proofs), groups, max(map(len, members))))
    for number, mine in enumerate(members):
        weights[np.arange(len(proofs)), number, bounds[:, mine].argmax(1).cpu().numpy()] = 1
    for proof, weight in zip(proofs, weights, strict=True):
        builder = proof.begin()
        root = np.full(groups, builder.root())
        if slopes == PARALLEL:
            builder.anchor(root[:1], TWICE)
        builder.claim(root, np.arange(groups), weight, np.full(groups, slopes))
