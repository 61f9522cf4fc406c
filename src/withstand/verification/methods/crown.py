"""Backward linear bounds."""

from collections.abc import Iterator

from withstand.bounds.relax import Lower
from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.bounding import bound_rows
from withstand.verification.problem import Problem


@verifier
class Crown:
    """Carry linear bounds from the outputs back to the input (CROWN; Zhang et al. 2018, arXiv:1811.00866).

    Hidden neurons are bounded in the same way, in order. lower: slope of the line below an unstable ReLU, `adaptive` (0
    or 1, by the smaller area, as in the paper), `zero`, `one`, or `parallel` to the line above; which is tightest
    differs from network to network. memory_mb: work is done in chunks of about this size.
    """

    lower: Lower = "adaptive"
    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question."""
        return bound_rows("crown", problem, self.memory_mb, self.lower)
