"""Interval bound propagation."""

from collections.abc import Iterator

from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.bounding import bound_rows
from withstand.verification.problem import Problem


@verifier
class Ibp:
    """Push the input's box through the network, one interval a neuron (Gowal et al. 2018, arXiv:1810.12715).

    The cheapest proof, and loose except on networks trained for it. memory_mb: work is done in chunks of about this
    size.
    """

    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question."""
        return bound_rows("ibp", problem, self.memory_mb)
