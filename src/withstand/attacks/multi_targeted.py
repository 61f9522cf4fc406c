"""Multi-targeted projected gradient descent: short walks, target by target, the nearest first."""

from typing import ClassVar, Literal

from torch import Tensor

from withstand.attacks.parts.targeting import by_distance, by_margin
from withstand.attacks.parts.walks import cosine_walk, diversified
from withstand.core.evidence import Ask
from withstand.core.registry import Count, Natural, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class MultiTargeted:
    """Walks down the margin of one target after another, in as many rounds as there are targets (Gowal et al. 2019,
    arXiv:1910.09338), nearest target first.

    targets: how many, or all there are; 9. steps: 20 for each, whose length falls along a cosine. order: `distance`
    compares margins divided by the size of their gradients (Melamed et al. 2024, arXiv:2407.02240), `margin` only the
    margins. odi: steps of output diversified initialisation before each walk (Tashiro et al. 2020, arXiv:2003.06878,
    who take 2 in white-box attacks); 0 begins at a random point. Any violation counts, not only that of the target.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.GRADIENT

    targets: Count = 9
    steps: Count = 20
    order: Literal["distance", "margin"] = "distance"
    odi: Natural = 0

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask at the clean input or two for the order, then `odi` and `steps` asks a target and a last one."""
        if self.order == "distance":
            order = yield from by_distance(x0, threat, self.targets)
        else:
            order = by_margin((yield Ask(threat.start(x0))), self.targets)
        for target in order.unbind(1):
            start = threat.sample(x0, rng)
            if self.odi:
                told = yield Ask(start)
                assert told.targets is not None
                weights = rng.uniform(told.targets.shape[1:], x0.dtype) * 2 - 1
                start = (yield from diversified(x0, threat, start, weights, self.odi, Ask(start))).x
            yield from cosine_walk(x0, threat, self.steps, Ask(start, target=target))
