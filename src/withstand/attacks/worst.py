"""The project's own schedule: the worst case of the standard ensemble at a small part of its cost."""

import math
from functools import partial
from typing import ClassVar

from torch import Tensor

from withstand.attacks.nearest import Nearest
from withstand.attacks.parts.stages import Begin, Field
from withstand.attacks.parts.targeting import by_distance
from withstand.attacks.parts.walks import Walk, cosine_walk, diversified
from withstand.attacks.sparse_rs import SparseRS
from withstand.attacks.square import Square
from withstand.core.evidence import Ask, Loss
from withstand.core.found import Found
from withstand.core.registry import Count, Natural, attack, build
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Attack, Search
from withstand.core.threat import Threat

SHORT = 20
"""Steps of a walk: many short walks from different starts find more than few long ones."""

MIDDLE, LONG = 50, 100
"""Steps of walks from rows that are near to a violation."""

SPREAD = 5
"""Steps of output diversified initialisation."""

TARGETS = 3
"""Targets every row is walked towards."""

NEAR, NEARER, NEAREST = 0.15, 0.04, 0.015
"""The shares of its clean margin a row's best margin is at most if it is near to a violation, nearer, or nearest."""

BLIND = 0.3
"""Share of zero gradients above which gradients are not trusted: more than a saturated cross-entropy could make, on
which a quarter of the walks go."""

AUDITED = 0.1
"""Share of the other rows that the score-only audit looks at, too."""

ROUND = ("l2", "l1")
"""Norms in which searches for the nearest violation find what walks inside the threat do not."""


@attack
class Worst:
    """Short walks of every kind from every kind of start, each on the rows the others left: the default of audits
    (Reference: a schedule of this project; its parts are cited below).

    Every row gets walks of 20 steps on the margin and on the cross-entropy, from corners of the threat and from the
    clean input, walks towards its three nearest targets (Melamed et al. 2024, arXiv:2407.02240), and walks from
    diversified starts (Tashiro et al. 2020, arXiv:2003.06878); in l2 and l1 the attack `nearest`, too. Rows brought
    near to a violation get more walks, side by side: a quarter of `walks` of 20 steps from diversified starts; nearer
    ones an eighth of 100 steps on the cross-entropy, too, still nearer ones all of 50 steps from diversified starts,
    and the nearest these twice. At last an attack that
    sees no gradients, Square (Andriushchenko et al. 2020, arXiv:1912.00049) or in l0 and patches Sparse-RS (Croce et
    al. 2022, arXiv:2006.12834), looks at those rows and at a tenth of the others for `queries` queries: what it finds
    tells that gradients mislead. Where it found something, or gradients were blank or no numbers, `then` attacks all
    rows left: the standard ensemble, unless another is named (`none`: no other).
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0", "patch", "box", "flow", "flow+linf")
    access: ClassVar[Access] = Access.GRADIENT
    roams: ClassVar[bool] = True

    walks: Count = 16
    queries: Natural = 200
    then: str = "standard"

    def __post_init__(self) -> None:
        if self.then != "none":
            build("attack", self.then)  # an attack there is not shall be named before any is run

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """About 190 asks for every row; up to some 2,000 points, and the audit, for some."""
        field = Field(x0, threat, rng)
        yield from field.stage(_ask_clean, CLEAN)
        field.clean = field.margin.clone()
        for stage, walk in enumerate(FLOOR, CLEAN + 1):
            yield from field.stage(walk, stage)
        if threat.norm in ROUND:
            yield from field.stage(Nearest().search, INWARDS, watched=False)
        for stage, (walk, share, part) in enumerate(FURTHER, CLOSER):
            yield from field.stage(walk, stage, field.near(share), copies=math.ceil(part * self.walks))
        auditor = next((kind for kind in (Square, SparseRS) if threat.norm in kind.norms), None)
        if self.queries and auditor is not None:
            chosen = field.near(NEAR) | (rng.uniform(()) < AUDITED)
            yield from field.stage(auditor(queries=self.queries).search, AUDIT, chosen)

    def escalate(self, found: Found) -> Attack | None:
        """The attack `then`, where gradients misled."""
        if self.then == "none":
            return None
        blind = int(found.zero_gradients.sum()) > BLIND * int(found.gradients.sum())
        misled = bool((found.stage[found.refuted] == AUDIT).any())
        return build("attack", self.then) if blind or misled or bool(found.nonfinite.any()) else None


def _ask_clean(x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
    yield Ask(threat.start(x0))


def _from_clean(x0: Tensor, threat: Threat, rng: RowRandom) -> Walk:
    return cosine_walk(x0, threat, SHORT, Ask(threat.start(x0), loss="smooth"))


def _from_corner(loss: Loss, x0: Tensor, threat: Threat, rng: RowRandom, steps: int = SHORT) -> Walk:
    return cosine_walk(x0, threat, steps, Ask(_corner(x0, threat, rng), loss=loss))


def _corner(x0: Tensor, threat: Threat, rng: RowRandom) -> Tensor:
    """A random extreme point of the threat."""
    return threat.extreme(x0, rng.normal(threat.start(x0).shape[1:], x0.dtype))


def _targeted(x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
    order = yield from by_distance(x0, threat, TARGETS)
    for target in order.unbind(1):
        yield from cosine_walk(x0, threat, SHORT, Ask(threat.sample(x0, rng), target=target))


def _diverse(x0: Tensor, threat: Threat, rng: RowRandom, steps: int = SHORT) -> Search:
    """A walk on the margin from a diversified start."""
    start = threat.sample(x0, rng)
    told = yield Ask(start)
    assert told.targets is not None
    weights = rng.uniform(told.targets.shape[1:], x0.dtype) * 2 - 1
    spread = yield from diversified(x0, threat, start, weights, SPREAD, Ask(start))
    yield from cosine_walk(x0, threat, steps, Ask(spread.x))


CLEAN, INWARDS, CLOSER, AUDIT = 0, 8, 10, 99
"""Numbers of stages (see `Found.stage`)."""

FLOOR: tuple[Begin, ...] = (
    _from_clean,
    partial(_from_corner, "margin"),
    partial(_from_corner, "smooth"),
    _targeted,
    _diverse,
    _diverse,
)
"""What every row gets."""

FURTHER: tuple[tuple[Begin, float, float], ...] = (
    (partial(_diverse, steps=SHORT), NEAR, 0.25),
    (partial(_from_corner, "smooth", steps=LONG), NEAR / 2, 0.125),
    (partial(_diverse, steps=MIDDLE), NEARER, 1.0),
    (partial(_diverse, steps=MIDDLE), NEAREST, 1.0),
)
"""What rows get that are as near to a violation as the share says, and how often, as a part of `walks`."""
