"""Linear programs."""

from collections.abc import Iterator
from typing import Literal

from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.milp.question import relaxed_bounds
from withstand.verification.milp.tighten import Effort
from withstand.verification.problem import Problem


@verifier
class Lp:
    """Relax every unstable ReLU to a triangle and solve the linear program (Ehlers 2017, arXiv:1705.01320).

    Never looser than backward linear bounds on the same neurons' bounds. A group of several rows is bounded as a whole.
    The bound is recomputed from the program's multipliers. tighten: bound unstable neurons by linear programs too
    (`lp`) or only by linear bounds (`crown`); tighten_seconds: for how long a question. memory_mb: linear bounds are
    computed in chunks of about this size.
    """

    tighten: Literal["crown", "lp"] = "crown"
    tighten_seconds: Positive = 30
    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """One bound a question, and candidates where the programs are least."""
        return relaxed_bounds(problem, Effort(self.tighten, self.tighten_seconds), self.memory_mb)
