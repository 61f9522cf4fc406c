"""The project's own schedule for the nearest violation."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.fab import walk
from withstand.attacks.fab_t import toward
from withstand.attacks.parts.follow import SHRINK, far_point, first_step, follow, smoothed
from withstand.attacks.parts.nearest import Best
from withstand.attacks.parts.targeting import by_margin
from withstand.core.evidence import Ask
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat

SHRINK_FAR = {
    "linf": 0.1,
    "l2": 0.15,
    "l1": 0.2,
}  # share by which the radius changes at first, from a random point, much farther away


@attack
class Nearest:
    """The nearest violation by several walks: FMN on a smoothed margin from the input, then from random points far from
    it; in linf, FAB towards each of the nearest targets comes first. Reference: this project; its parts are
    those of Pintor et al. 2021 (arXiv:2102.12827) and Croce and Hein 2020 (arXiv:1907.02044).

    steps: 50 a walk; a step of FAB has two asks and counts twice. walks: 3, after the first. The walk from the input
    goes down the mean of all targets' margins, the least ones weighing most: the slope of the least margin alone jumps
    where two targets meet. Points with uniform noise of half the domain's width are where gradients are alive that a
    network trained against attacks has flat near the input.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 50
    walks: Count = 3

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask at the input, then one a step. Stage 1 is the walk from the input, 2 the next and so on."""
        clean = yield Ask(x0)
        best = Best(threat, x0)
        step = first_step(best)
        yield from follow(best, x0, self.steps, step, SHRINK, smoothed(clean.margin, 1), clean)
        targets = by_margin(clean, self.walks).unbind(1) if threat.norm == "linf" else ()
        for stage, target in enumerate(targets, 2):
            yield from walk(x0, best, toward(target, stage), max(1, self.steps // 2), stage)
        for stage in range(2 + len(targets), 2 + self.walks):
            start, shrink = far_point(best, rng), SHRINK_FAR[threat.norm]
            yield from follow(best, start, self.steps, step, shrink, smoothed(clean.margin, stage))
