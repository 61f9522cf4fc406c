"""Backward linear bounds whose slopes are made best for every question."""

from collections.abc import Iterator

from withstand.core.evidence import Evidence
from withstand.core.registry import verifier
from withstand.verification.phases import plant
from withstand.verification.problem import Problem


@verifier
class AlphaCrown:
    """CROWN with the slopes of the lower lines chosen by gradient steps, for each row and each neuron that matters.

    Reference: Xu et al. 2021, arXiv:2011.13824. The rows come first; where they stay open, the bounds of the neurons
    are made better too, each for its own sake, and the rows are bounded again.
    """

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        """Bounds of every question by CROWN, then better ones."""
        trees = yield from plant(problem)
        for tree in trees:
            while problem.open[tree.question] and not tree.rooted:
                yield from tree.step()
