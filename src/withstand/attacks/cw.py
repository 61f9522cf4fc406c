"""The attacks of Carlini and Wagner in l2, linf and l0."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.parts import cw_l0, cw_l2, cw_linf
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat

SEARCHES = {"l2": cw_l2.search, "linf": cw_linf.search, "l0": cw_l0.search}


@attack
class CW:
    """The least distance plus a weight times the hinge of the margin, by Adam on a tanh variable (Carlini and Wagner
    2017, arXiv:1608.04644). In l2, with a search for the weight; in linf, with a penalty on changes above a bound that
    shrinks; in l0, the l2 attack on ever fewer pixels. Under `--property not-class:CLASS` it is the targeted form.

    steps: of one round at most, 1000; a row's round ends sooner, after steps that shrink whenever the loss stands
    still. rounds: weights or bounds tried, 9 (in l0: sets of pixels that may fail in a row). rate: length of the first
    steps, 0.1, which falls to 0.001 (the paper's 0.01 throughout needs ten times the steps).

    Unlike the released code, the first weight is the one a linear model would need, later rounds go on from the
    nearest violation, in l2 and linf the untargeted form aims at the class that is nearest if the model were linear,
    and the tanh variable keeps its slope where an input lies on the edge of the domain. In a domain without end there
    is no tanh. There is no confidence kappa: the nearest violation of the property is what counts.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf", "l0")
    access: ClassVar[Access] = Access.GRADIENT
    minimal: ClassVar[bool] = True

    steps: Count = 1000
    rounds: Count = 9
    rate: Positive = 0.1

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step."""
        yield from SEARCHES[threat.norm](x0, threat, self.steps, self.rounds, self.rate)
