"""Random points of the threat."""

from typing import ClassVar

from torch import Tensor

from withstand.core.evidence import Ask
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class Noise:
    """Try random points of the threat, the weakest attack there is (Reference: baseline of Fawzi et al. 2016,
    arXiv:1608.08967, who set random noise against adversarial noise).

    draws: points a sample. An input that noise refutes needs no search; one that only search refutes shows what the
    search adds.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0", "patch", "box", "flow", "spatial", "flow+linf")
    access: ClassVar[Access] = Access.SCORES

    draws: Count = 100

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a draw."""
        for _ in range(self.draws):
            yield Ask(threat.sample(x0, rng))
