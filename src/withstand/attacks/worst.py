"""The project's own schedule: the worst case of the standard ensemble at a small part of its cost."""

from collections.abc import Generator
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.parts.stages import staged
from withstand.attacks.parts.targeting import by_distance
from withstand.attacks.parts.walks import cosine_walk, diversified
from withstand.attacks.sparse_rs import SparseRS
from withstand.attacks.square import Square
from withstand.core.evidence import Ask, Loss, Told
from withstand.core.found import Found
from withstand.core.registry import Count, Natural, attack, build
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Attack, Search
from withstand.core.threat import Threat

SHORT = 20
"""Steps of a walk: many short walks from different starts find more than few long ones."""

SPREAD = 5
"""Steps of output diversified initialisation."""

TARGETS = 3
"""Targets every row is walked towards."""

NEAR = 0.15
"""A row is near to a violation if its best margin is at most this share of the clean one."""

BLIND = 0.3
"""Share of zero gradients above which gradients are not trusted: more than a saturated cross-entropy could make, on
which a quarter of the walks go."""

AUDITED = 0.1
"""Share of the other rows that the score-only audit looks at, too."""

LOSSES: tuple[Loss, ...] = ("margin", "smooth")
DIVERSE, LONG, ROUNDS, AUDIT = 10, 20, 30, 99
"""Numbers of stages (see `Found.stage`): the first diversified walk, the first round, the audit."""


@attack
class Worst:
    """Short walks of every kind from every kind of start, each on the rows the others left: the default of audits
    (Reference: a schedule of this project; its parts are cited below).

    Every row gets walks of 20 steps on the margin and on the cross-entropy, from corners of the threat and from the
    clean input, walks towards its three nearest targets (Melamed et al. 2024, arXiv:2407.02240), and walks from
    diversified starts (Tashiro et al. 2020, arXiv:2003.06878). Rows brought near to a violation get two long walks and
    `rounds` more of the two kinds that find most. At last an attack that sees no gradients, Square
    (Andriushchenko et al. 2020, arXiv:1912.00049) or in l0 and patches Sparse-RS (Croce et al. 2022, arXiv:2006.12834),
    looks at those rows and at a tenth of the others for `queries` queries: what it finds tells that gradients mislead.
    Where it found something, or gradients were blank or no numbers, `then`
    attacks all rows left: the standard ensemble, unless another is named (`none`: no other).
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0", "patch", "box", "flow", "flow+linf")
    access: ClassVar[Access] = Access.GRADIENT
    roams: ClassVar[bool] = True

    rounds: Count = 10
    queries: Natural = 500
    then: str = "standard"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """About 190 asks for every row; 45 a round, and the audit, for some."""
        best = _Best()
        order = yield from best.watch(self._floor(x0, threat, rng))
        near = best.near
        for stage, target in enumerate(order[:, :2].unbind(1), LONG):
            walk = cosine_walk(x0, threat, 5 * SHORT, Ask(corner(x0, threat, rng), target=target))
            yield from staged(walk, stage, near)
        for number in range(self.rounds):
            yield from staged(_round(x0, threat, rng), ROUNDS + number, near)
        auditor = next((kind for kind in (Square, SparseRS) if threat.norm in kind.norms), None)
        if self.queries and auditor is not None:
            chosen = near | (rng.uniform(()) < AUDITED)
            yield from staged(auditor(queries=self.queries).search(x0, threat, rng.fork(0)), AUDIT, chosen)

    def escalate(self, found: Found) -> Attack | None:
        """The attack `then`, where gradients misled."""
        if self.then == "none":
            return None
        blind = int(found.zero_gradients.sum()) > BLIND * int(found.gradients.sum())
        misled = bool((found.stage[found.refuted] == AUDIT).any())
        return build("attack", self.then) if blind or misled or bool(found.nonfinite.any()) else None

    def _floor(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Generator[Ask, Told, Tensor]:
        """What every row gets. Returns the order of its targets [B, T]."""
        clean = Ask(threat.start(x0), loss="smooth")
        yield from staged(cosine_walk(x0, threat, SHORT, clean), 0)
        for stage, loss in enumerate(LOSSES, 1):
            yield from staged(cosine_walk(x0, threat, SHORT, Ask(corner(x0, threat, rng), loss=loss)), stage)
        order = yield from by_distance(x0, threat, TARGETS)
        for stage, target in enumerate(order.unbind(1), 3):
            start = Ask(threat.sample(x0, rng), target=target)
            yield from staged(cosine_walk(x0, threat, SHORT, start), stage)
        for stage in (DIVERSE, DIVERSE + 1):
            yield from staged(_diverse(x0, threat, rng), stage)
        return order


def corner(x0: Tensor, threat: Threat, rng: RowRandom) -> Tensor:
    """A random extreme point of the threat."""
    return threat.extreme(x0, rng.normal(threat.start(x0).shape[1:], x0.dtype))


def _diverse(x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
    """A short walk on the margin from a diversified start."""
    start = threat.sample(x0, rng)
    told = yield Ask(start)
    assert told.targets is not None
    weights = rng.uniform(told.targets.shape[1:], x0.dtype) * 2 - 1
    spread = yield from diversified(x0, threat, start, weights, SPREAD, Ask(start))
    yield from cosine_walk(x0, threat, SHORT, Ask(spread.x))


def _round(x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
    """One more walk of each of the two kinds that find most on rows that others left."""
    yield from cosine_walk(x0, threat, SHORT, Ask(corner(x0, threat, rng), loss="smooth"))
    yield from _diverse(x0, threat, rng)


class _Best:
    """The best margin [B] of every row among the answers watched, and the first, which is the clean one."""

    clean: Tensor | None = None
    margin: Tensor | None = None

    def watch(self, search: Generator[Ask, Told, Tensor]) -> Generator[Ask, Told, Tensor]:
        """The search itself, with its answers seen."""
        told = None
        while True:
            try:
                ask = next(search) if told is None else search.send(told)
            except StopIteration as end:
                return end.value
            told = yield ask
            self.clean = told.margin if self.clean is None else self.clean
            self.margin = told.margin if self.margin is None else torch.minimum(self.margin, told.margin)

    @property
    def near(self) -> Tensor:
        """Rows [B] brought near to a violation."""
        assert self.clean is not None
        assert self.margin is not None
        return self.margin <= NEAR * self.clean
