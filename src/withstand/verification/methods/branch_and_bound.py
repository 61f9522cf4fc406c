"""Branch and bound over the intervals of neurons."""

from collections.abc import Generator
from typing import ClassVar

from withstand.core.evidence import Evidence
from withstand.core.registry import Count, Positive, verifier
from withstand.verification.falsify import falsify
from withstand.verification.phase_reach import tell_reach
from withstand.verification.phases import PhaseTree, plant
from withstand.verification.problem import Problem


@verifier
class BranchAndBound:
    """Split neurons until linear bounds of free slopes, with a price for every split, settle every part.

    Reference: Bunel et al. 2020, arXiv:1909.06588; bounds: Xu et al. 2021, arXiv:2011.13824 (alpha-CROWN) and Wang et
    al. 2021, arXiv:2103.06624 (beta-CROWN).

    Each question is reduced to the neurons that linear bounds leave undecided. Domains of the least bound come first.
    Questions take turns, those of the best bounds first, each turn with four times the work of the one before, so that
    easy ones do not wait for hard ones; after each turn PGD looks for violations from the worst domains. Complete for
    ReLU networks over boxes, up to rounding. ReLUs and their kin are split at kinks; smooth functions, and the inputs
    of products, softmax and maxima, near where the bound is least or in the middle, again and again until they are too
    narrow. Functions of very many inputs are not split.

    steps: gradient steps on every new domain. effort: billions of multiplications a question at most, after which it is
    given up (none: no limit); one core does a few of them a second. With such a limit, questions whose first bound lies
    further below zero than the margin at x0 lies above are given up at once. first: those of the first turn. max_mb:
    memory of all open domains; a question that needs more is given up.
    """

    searches: ClassVar[bool] = True

    steps: Count = 20
    effort: Positive | None = None
    first: Positive = 1.0
    max_mb: Positive = 4096

    def prove(self, problem: Problem) -> Generator[Evidence, None, str | None]:
        """Bounds of every question by CROWN, then running bounds and candidates of one question after the other."""
        trees = yield from plant(problem, self.steps)
        planted = len(trees)
        for tree in trees:
            tell_reach(tree)
        if self.effort is not None:
            trees = [tree for tree in trees if tree.bound >= -tree.margin]
        limit = self.first
        stop = None if len(trees) == planted else f"its first bound promised no proof within effort={self.effort:g}"
        while trees:
            limit = limit if self.effort is None else min(limit, self.effort)
            waiting: list[PhaseTree] = []
            for tree in sorted(trees, key=lambda tree: -tree.bound):
                while problem.open[tree.question] and not tree.done and tree.work + tree.cost <= limit * 1e9:
                    yield from tree.step()
                if not problem.open[tree.question]:
                    continue
                tell_reach(tree)
                if tree.done:
                    stop = tree.stop or stop
                elif sum(other.size for other in trees) > self.max_mb * 2**20:
                    stop = f"the open domains passed the memory limit max_mb={self.max_mb:g}"
                elif limit == self.effort:
                    stop = f"the search passed its limit effort={self.effort:g}"
                else:
                    yield from falsify(tree)
                    if problem.open[tree.question]:
                        waiting.append(tree)
            trees, limit = waiting, 4 * limit
        return stop
