"""What a verifier is asked: a batch of questions about one network."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from withstand.core.evidence import Grade
from withstand.core.property import Property, Rows
from withstand.core.threat import Threat
from withstand.graph.ir import Graph


@dataclass(frozen=True)
class Problem:
    """Does the property hold for every x in the threat around each x0 [B, *shape], with targets y [B]?"""

    graph: Graph
    x0: Tensor
    y: Tensor
    threat: Threat
    property: Property

    @cached_property
    def rows(self) -> Rows:
        """The property as linear rows over the outputs."""
        outputs = 1
        for size in self.graph.output_shape:
            outputs *= size
        return self.property.rows(self.y, outputs, self.x0.dtype)

    @property
    def grade(self) -> Grade:
        """The grade of bounds computed in the questions' own float type."""
        return Grade.FLOAT64 if self.x0.dtype.itemsize == 8 else Grade.FLOAT32

    def __len__(self) -> int:
        return len(self.x0)
