"""Simultaneous perturbation stochastic approximation."""

from typing import ClassVar

from torch import Tensor

from withstand.attacks.parts.probing import Adam, probe_width, slope
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class SPSA:
    """Estimate the slope from pairs of probes with random signs and take Adam's steps; needs scores only (Uesato et al.
    2018, arXiv:1802.05666; Spall 1992, doi:10.1109/9.119632).

    queries: at most so many a sample; the default is enough for the paper's 100 steps. samples: queries of one slope;
    128, the smallest number of the paper. delta: width of the probes, as a share of the domain; .01 as there. step:
    length of a step as a fraction of the radius; .3 is the paper's .01 at a radius of 8/255. loss: margin, ce or dlr.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "box")
    access: ClassVar[Access] = Access.SCORES

    queries: Count = 12900
    samples: Count = 128
    delta: Positive = 0.01
    step: Positive = 0.3
    loss: Loss = "margin"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """The asks of one slope and one for the new point, a step."""
        pairs = max(1, self.samples // 2)
        x, adam = threat.start(x0), Adam(x0)
        width = probe_width(threat, self.delta)
        for _ in range(self.queries // (2 * pairs + 1)):
            grad = yield from slope(x0, x, threat, rng.signs, pairs, width, self.loss)
            stride = adam.step(grad)
            direction = threat.steepest(stride, x)
            if threat.norm != "l2":
                direction = direction * stride.abs()
            x = threat.project(x0, x - self.step * threat.radii(x) * direction)
            yield Ask(x, loss=self.loss)
