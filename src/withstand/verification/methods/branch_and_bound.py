"""Branch and bound over the phases of neurons."""

from collections.abc import Generator

import torch

from withstand.bounds.refine import crown
from withstand.core.evidence import Evidence
from withstand.core.judge import needed
from withstand.core.registry import Count, Positive, verifier
from withstand.verification.bounding import CHUNK
from withstand.verification.phases import PhaseTree
from withstand.verification.problem import Problem


@verifier
class BranchAndBound:
    """Split neurons at zero until linear bounds of free slopes, with a price for every split, settle every part.

    Reference: Bunel et al. 2020, arXiv:1909.06588; bounds: Xu et al. 2021, arXiv:2011.13824 (alpha-CROWN) and Wang et
    al. 2021, arXiv:2103.06624 (beta-CROWN).

    Each question is reduced to the neurons that linear bounds leave undecided. Domains of the least bound come first.
    Questions take turns, those of the best bounds first, each turn four times as long as the one before, so that easy
    ones do not wait for hard ones. Complete for ReLU networks over boxes, up to rounding.

    steps: gradient steps on every new domain. first: domains of the first turn. max_mb: memory of all open domains; a
    question that needs more is given up.
    """

    steps: Count = 20
    first: Count = 256
    max_mb: Positive = 4096

    def prove(self, problem: Problem) -> Generator[Evidence, None, str | None]:
        """Bounds of every question by CROWN, then running bounds and candidates of one question after the other."""
        trees = yield from self._roots(problem)
        trees.sort(key=lambda tree: -tree.bound)
        limit, stop = self.first, None
        while trees:
            waiting: list[PhaseTree] = []
            for tree in trees:
                while problem.open[tree.question] and not tree.done and tree.count < limit:
                    yield from tree.step()
                if not problem.open[tree.question]:
                    continue
                if tree.done:
                    stop = tree.stop or stop
                elif sum(other.size for other in trees) > self.max_mb * 2**20:
                    stop = f"the open domains passed the memory limit max_mb={self.max_mb:g}"
                else:
                    waiting.append(tree)
            trees, limit = waiting, 4 * limit
        return stop

    def _roots(self, problem: Problem) -> Generator[Evidence, None, list[PhaseTree]]:
        """What is left to search after the bounds over whole regions."""
        trees = []
        for chunk in torch.arange(len(problem)).split(CHUNK):
            rows = chunk[problem.open[chunk]]
            if not len(rows):
                continue
            part = problem.pick(rows)
            with torch.no_grad():
                relaxation = crown(part.graph, part.threat, part.x0)
                level = 2 * needed(problem.grade, part.graph(part.x0))
                trees_here = [
                    PhaseTree(part, place, question, relaxation, float(level[place]), self.steps)
                    for place, question in enumerate(rows.tolist())
                ]
            for tree in trees_here:
                yield from tree.root()
                if problem.open[tree.question]:
                    trees.append(tree)
        return trees
