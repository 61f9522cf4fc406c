"""Forward linear bounds."""

from collections.abc import Iterator

from withstand.bounds.relax import Lower
from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.bounding import bound_rows
from withstand.verification.problem import Problem


@verifier
class Forward:
    """Carry every neuron between two affine functions of the input forward (Xu et al. 2020, arXiv:2002.12920).

    The cost grows with the number of inputs instead of the number of neurons: for networks of few inputs. lower: slope
    of the line below an unstable ReLU, as for crown. memory_mb: work is done in chunks of about this size.
    """

    lower: Lower = "adaptive"
    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question."""
        return bound_rows("forward", problem, self.memory_mb, self.lower)
