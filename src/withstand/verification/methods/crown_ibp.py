"""Backward linear bounds of the outputs over interval bounds of the neurons."""

from collections.abc import Iterator

from withstand.bounds.relax import Lower
from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.bounding import bound_rows
from withstand.verification.problem import Problem


@verifier
class CrownIbp:
    """Bound neurons by intervals and carry linear bounds of the outputs alone back (Zhang et al. 2020,
    arXiv:1906.06316).

    Between ibp and crown in cost and tightness. lower: slope of the line below an unstable ReLU, as for crown.
    memory_mb: work is done in chunks of about this size.
    """

    lower: Lower = "adaptive"
    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question."""
        return bound_rows("crown-ibp", problem, self.memory_mb, self.lower)
