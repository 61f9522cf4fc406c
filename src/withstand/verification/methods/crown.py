"""Backward linear bounds."""

from collections.abc import Iterator

from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.bounding import bound_rows
from withstand.verification.problem import Problem


@verifier
class Crown:
    """Carry linear bounds from the outputs back to the input (CROWN; Zhang et al. 2018, arXiv:1811.00866).

    Hidden neurons are bounded in the same way, in order. memory_mb: work is done in chunks of about this size.
    """

    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question."""
        return bound_rows("crown", problem, self.memory_mb)
