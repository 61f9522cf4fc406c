"""Fast minimum norm: projected gradient steps in a ball whose radius follows the nearest violation."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.parts.follow import follow
from withstand.attacks.parts.nearest import Best
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class FMN:
    """The nearest violation: gradient steps projected on a ball that shrinks after a violation and grows otherwise
    (Pintor et al. 2021, arXiv:2102.12827).

    steps: 100. step: length (in l2) of the first step for images in [0, 1], which scales with the width of the domain
    and falls to its hundredth; 1 as in the paper, which tunes it up to 10 for linf. gamma: the share by which the
    radius shrinks or grows at first, 0.05, which falls to 0.001. loss: margin, as in the paper, or ce, which often ends
    nearer in l2. Unlike the released code, a row without a violation so far gets a radius that grows at every step,
    else the edges of the domain could hold it back for ever; and a point inside the ball stays where it is.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 100
    step: Positive = 1.0
    gamma: Positive = 0.05
    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step, and one for the last point."""

        def slope(x: Tensor, told: object) -> Ask:
            return Ask(x, grad=True, loss=self.loss)

        yield from follow(Best(threat, x0), x0, self.steps, self.step, self.gamma, slope)
