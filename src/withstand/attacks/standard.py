"""The standard ensemble of parameter-free attacks."""

from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from withstand.attacks.fab import FAB
from withstand.attacks.fab_t import FabT
from withstand.attacks.parts.stages import Begin, Field
from withstand.attacks.parts.targeting import by_margin
from withstand.attacks.parts.walks import Walk, at, halving_walk, narrowing_walk
from withstand.attacks.square import Square
from withstand.core.evidence import Ask, Loss
from withstand.core.registry import Count, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat


@attack
class Standard:
    """AutoAttack: Auto-PGD, targeted Auto-PGD, targeted FAB and Square in turn, each on the rows the others left (Croce
    and Hein 2020, arXiv:2003.01690; in l1 Croce and Hein 2021, arXiv:2103.01208).

    version: `standard` is APGD on the cross-entropy, APGD on the targeted ratio and FAB towards each of 9 `targets`,
    with 100 `steps`, and Square with 5,000 `queries`; in l1 APGD runs 5 times, and towards 5 targets at most, each time
    from a wider ball inwards. `plus` takes APGD on cross-entropy and ratio and FAB on all classes 5 times, then Square,
    then the targeted two. `rand`, for random models, is APGD on both losses: have the runner average 20 draws (`draws`,
    --eot 20). Unlike the released code, a row leaves at its first violation, and Square draws positions row by row.
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT
    roams: ClassVar[bool] = True
    loss: ClassVar[Loss] = "dlr"

    version: Literal["standard", "plus", "rand"] = "standard"
    steps: Count = 100
    targets: Count = 9
    queries: Count = 5000

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """The asks of the members in turn; the stage is the member's number."""
        field = Field(x0, threat, rng)
        for stage, member in enumerate(self._members(threat)):
            yield from field.stage(member, stage)

    def _members(self, threat: Threat) -> list[Begin]:
        square, fab_t = Square(queries=self.queries, stretched=False), FabT(steps=self.steps, targets=self.targets)
        if self.version == "standard":
            runs = 5 if threat.norm == "l1" else 1
            return [partial(self._restarted, "ce", runs), self._towards, fab_t.search, square.search]
        runs = 5 if self.version == "plus" else 1
        members: list[Begin] = [partial(self._restarted, "ce", runs), partial(self._restarted, "dlr", runs)]
        if self.version == "plus":
            fab = FAB(steps=self.steps, targets=self.targets, restarts=5)
            members += [fab.search, square.search, self._towards, fab_t.search]
        return members

    def _restarted(self, loss: Loss, restarts: int, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        for _ in range(restarts):
            yield from self._walk(x0, threat, rng, Ask(x0, loss=loss))

    def _towards(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        told = yield Ask(x0)
        for target in by_margin(told, min(self.targets, 5 if threat.norm == "l1" else self.targets)).unbind(1):
            yield from self._walk(x0, threat, rng, Ask(x0, loss="dlr", target=target))

    def _walk(self, x0: Tensor, threat: Threat, rng: RowRandom, ask: Ask) -> Walk:
        """Auto-PGD from a random start."""
        if threat.norm == "l1":
            return narrowing_walk(x0, threat, self.steps, at(ask, x0 + rng.normal(x0.shape[1:], x0.dtype)))
        return halving_walk(x0, threat, self.steps, at(ask, threat.sample(x0, rng)))
