"""What a verifier is asked: a batch of questions about one network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from withstand.core.evidence import Grade
from withstand.core.property import Property, Rows
from withstand.core.threat import Threat
from withstand.graph.ir import Graph
from withstand.verification.nested import Nested
from withstand.verification.proof import Proof


@dataclass(frozen=True)
class Problem:
    """Does the property hold for every x in the threat around each x0 [B, *shape], with targets y [B]?

    Computed in the type of x0, which is also that of the graph's constants. proofs: the certificates [B] that a
    verifier fills while it works, where they are wanted. nested: what is shared with questions about other radii, where
    those are asked.
    """

    graph: Graph
    x0: Tensor
    y: Tensor
    threat: Threat
    property: Property
    proofs: Sequence[Proof] | None = None
    nested: Nested | None = None

    @cached_property
    def rows(self) -> Rows:
        """The property as linear rows over the outputs."""
        return self.property.rows(self.y, math.prod(self.graph.output_shape), self.x0.dtype)

    @cached_property
    def open(self) -> Tensor:
        """Which questions still want an answer: bool [B], changed in place by the search as the judge decides.

        A verifier looks at it between pieces of evidence and leaves closed questions alone.
        """
        return torch.ones(len(self.x0), dtype=torch.bool, device=self.x0.device)

    @cached_property
    def grade(self) -> Grade:
        """The grade of bounds computed in the questions' own float type."""
        return Grade.FLOAT64 if self.x0.dtype.itemsize == 8 else Grade.FLOAT32

    def pick(self, rows: Tensor) -> "Problem":
        """The questions of some rows [K], all open."""
        proofs = None if self.proofs is None else [self.proofs[row] for row in rows.tolist()]
        nested = None if self.nested is None else self.nested.pick(rows)
        threat = self.threat.pick(rows, self.x0)
        return Problem(self.graph, self.x0[rows], self.y[rows], threat, self.property, proofs, nested)

    def __len__(self) -> int:
        return len(self.x0)
