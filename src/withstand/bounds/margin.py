"""Lower bounds of a property's rows over a threat, by any of the methods."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from withstand.bounds.forward import Forward, forward
from withstand.bounds.linear import Relaxation, least
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


def prepare(
    method: Method, graph: Graph, threat: Threat, x0: Tensor, *, lower: Lower = "adaptive", memory_mb: float = 1024
) -> Bounds | Forward:
    """Bounds on all values of the graph over the threat around x0 [B, *input_shape].

    method: `ibp`, `crown` (backward linear bounds of all values), `crown-ibp` (of the rows only), `forward` (linear
    bounds from the input on) or `zonotope` (crown with parallel lines, which are a zonotope's: DeepZ, Singh et al.
    2018). lower: slope of an unstable ReLU's lower line, for the three with lines of their own choice.
    memory_mb: work is done in chunks of about this size.
    Raises InputError when the method is unknown or an operator has no rule.
    """
    if method == "ibp":
        return Bounds(ibp(graph, threat, x0, memory_mb), memory_mb)
    if method == "crown":
        return Bounds(crown(graph, threat, x0, lower, memory_mb), memory_mb)
    if method == "crown-ibp":
        return Bounds(replace(ibp(graph, threat, x0, memory_mb), affine_only=False, lower=lower), memory_mb)
    if method == "forward":
        return forward(graph, threat, x0, lower, memory_mb)
    if method == "zonotope":
        return Bounds(crown(graph, threat, x0, "parallel", memory_mb), memory_mb)
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
