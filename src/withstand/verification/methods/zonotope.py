"""Zonotope bounds."""

from collections.abc import Iterator

from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.bounding import bound_rows
from withstand.verification.problem import Problem


@verifier
class Zonotope:
    """Bound every neuron by an affine image of noise symbols, one fresh symbol an unstable neuron.

    DeepZ; Reference: Singh et al. 2018, "Fast and effective robustness certification", NeurIPS. The coefficients of a
    neuron's symbols are computed from the neuron back, through the same parallel lines, and only for unstable neurons:
    the bounds are those of symbols carried forward (Salman et al. 2019, arXiv:1902.08722), at the cost of crown.
    memory_mb: work is done in chunks of about this size.
    """

    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question."""
        return bound_rows("zonotope", problem, self.memory_mb)
