"""Lower bounds of a property's rows over a threat, by any of the methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from withstand.bounds.forward import Forward, forward
from withstand.bounds.inner import widest
from withstand.bounds.linear import Relaxation, carried, least
from withstand.bounds.planes import no_news
from withstand.bounds.refine import crown, ibp, row_limit
from withstand.bounds.relax import Lower
from withstand.bounds.rule import Box
from withstand.core.errors import InputError
from withstand.core.evidence import Grade
from withstand.core.property import Rows
from withstand.core.registry import suggest
from withstand.core.threat import Threat
from withstand.graph.ir import Graph

Method = Literal["ibp", "crown", "crown-ibp", "forward", "zonotope"]


@dataclass
class Bounds:
    """Bounds of one batch, to be asked for as many rows as wanted.

    boxes: lower and upper bounds [B, *shape] of every value of the graph by name.
    """

    relaxation: Relaxation
    memory_mb: float

    @property
    def boxes(self) -> dict[str, Box]:
        """Bounds of every value by name."""
        return self.relaxation.boxes

    def lower(self, rows: Rows) -> Tensor:
        """Sound lower bounds [B, R] of the rows over the threat: by lines, or by boxes where those are tighter."""
        output = self.relaxation.graph.output
        shape = self.relaxation.boxes[output][0].shape[1:]
        by_boxes = replace(self.relaxation, affine_only=True)
        batch, count = rows.weight.shape[:2]
        found = []
        for samples in torch.arange(batch).split(max(1, row_limit(self.boxes, self.memory_mb) // count)):
            weight = rows.weight[samples]
            weight = weight.reshape(*weight.shape[:2], *shape)
            bound = least(by_boxes.select(samples), output, weight)
            if not self.relaxation.affine_only:
                bound = torch.fmax(bound, least(self.relaxation.select(samples), output, weight))
            found.append(bound)
        return no_news(torch.cat(found) + rows.offset)

    def within(self, rows: Rows, radii: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Radii [B] up to `radii` [B], those of the threat, within which the lines over the threat keep the combined
        rows above `level` [B], and the bounds [B] there; 0 where they do at no radius.

        Lines that hold over a ball hold over every smaller one, where only the least value of the lines is new.
        """
        relaxation, output = self.relaxation, self.relaxation.graph.output
        radius, bound = torch.zeros_like(radii), torch.full_like(radii, -torch.inf)
        batch, count = rows.weight.shape[:2]
        for samples in torch.arange(batch).split(max(1, row_limit(self.boxes, self.memory_mb) // count)):
            own = relaxation.select(samples)
            weight, offset = rows.weight[samples], rows.offset[samples]
            lines, constant = carried(own, output, weight.reshape(*weight.shape[:2], *self.boxes[output][0].shape[1:]))

            def value(radii: Tensor, own=own, lines=lines, constant=constant + offset) -> Tensor:
                least = 0.0 if lines is None else own.threat.at(radii).lowest(own.x0, lines)
                return rows.combine(no_news(constant + least))

            radius[samples], bound[samples] = widest(value, radii[samples], level[samples])
        return radius, bound


def prepare(
    method: Method,
    graph: Graph,
    threat: Threat,
    x0: Tensor,
    *,
    lower: Lower = "adaptive",
    memory_mb: float = 1024,
    known: Mapping[str, Box] | None = None,
) -> Bounds | Forward:
    """Bounds on all values of the graph over the threat around x0 [B, *input_shape].

    method: `ibp`, `crown` (backward linear bounds of all values), `crown-ibp` (of the rows only), `forward` (linear
    bounds from the input on) or `zonotope` (crown with parallel lines, which are a zonotope's: DeepZ, Singh et al.
    2018). lower: slope of an unstable ReLU's lower line, for the three with lines of their own choice.
    memory_mb: work is done in chunks of about this size. known: boxes of values that hold over the threat already,
    from which `crown` and `zonotope` start.
    Raises InputError when the method is unknown or an operator has no rule.
    """
    if method == "ibp":
        return Bounds(ibp(graph, threat, x0, memory_mb), memory_mb)
    if method == "crown":
        return Bounds(crown(graph, threat, x0, lower, memory_mb, known), memory_mb)
    if method == "crown-ibp":
        return Bounds(replace(ibp(graph, threat, x0, memory_mb), affine_only=False, lower=lower), memory_mb)
    if method == "forward":
        return forward(graph, threat, x0, lower, memory_mb)
    if method == "zonotope":
        return Bounds(crown(graph, threat, x0, "parallel", memory_mb, known), memory_mb)
    raise InputError(f"There is no bound method {method!r}; {suggest(method, list(get_args(Method)))}")


def lower_bound(
    method: Method,
    graph: Graph,
    threat: Threat,
    x0: Tensor,
    rows: Rows,
    *,
    lower: Lower = "adaptive",
    memory_mb: float = 1024,
) -> Tensor:
    """Sound lower bounds [B, R] of the rows' values at the graph's outputs over the threat around x0 [B, *input_shape].

    `rows.combine` turns them into lower bounds of the margin. method, lower: see `prepare`.
    memory_mb: work is done in chunks of about this size.
    Raises InputError when the method is unknown or an operator has no rule.
    """
    if not len(x0):
        return torch.zeros_like(rows.offset)
    return prepare(method, graph, threat, x0, lower=lower, memory_mb=memory_mb).lower(rows)


def grade(graph: Graph) -> Grade:
    """The arithmetic of bounds of this graph: that of its weights."""
    return Grade.FLOAT64 if graph.dtype == torch.float64 else Grade.FLOAT32
