"""Mixed-integer linear programs."""

from collections.abc import Iterator
from typing import ClassVar

from withstand.core.evidence import Evidence
from withstand.core.registry import Positive, verifier
from withstand.verification.milp.question import Engine, Goal, exact_bounds
from withstand.verification.milp.tighten import Effort, Far
from withstand.verification.problem import Problem


@verifier
class Milp:
    """Encode the network as a mixed-integer linear program and search it to the end (Tjeng et al. 2019,
    arXiv:1711.07356).

    Exact, up to float64, for networks of straight pieces (ReLU, leaky ReLU, abs, clip, max, max pooling) under linf,
    box, l1 and l2 threats; for others a bound. The outcome of a search cut short is its bound and its best point.
    Neurons whose sign is open are bounded first: tighten says by what means at most (`crown`, `lp`, `milp`),
    tighten_seconds for how long a question, neuron_seconds how long one bound by `milp` may take. goal: `status` ends
    with the question, `worst` with its least margin. engine: `tree` branches on linear programs whose every bound is
    recomputed from its multipliers, `highs` hands all to HiGHS and lowers its bound by a margin. memory_mb: linear
    bounds are computed in chunks of about this size.
    """

    searches: ClassVar[bool] = True

    goal: Goal = "status"
    tighten: Far = "lp"
    tighten_seconds: Positive = 30
    neuron_seconds: Positive = 0.5
    engine: Engine = "tree"
    memory_mb: Positive = 1024

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """Running bounds, and candidates."""
        effort = Effort(self.tighten, self.tighten_seconds, self.neuron_seconds)
        return exact_bounds(problem, effort, self.goal, self.engine, self.memory_mb)
