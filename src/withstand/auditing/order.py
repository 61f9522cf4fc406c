"""All that a call for attacks says, and carrying it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

from withstand.auditing.attacked import Attacked, attacked
from withstand.auditing.campaign import Campaign
from withstand.auditing.ledger import Ledger, name_of_source
from withstand.auditing.plan import make_plan, radii_of
from withstand.auditing.progress import Listener
from withstand.auditing.question import Question, pose
from withstand.auditing.requirements import check_attacks, stand_in
from withstand.auditing.runfolder import RunFolder
from withstand.auditing.siege import Attacks, Means
from withstand.auditing.universal import Fitting
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.records import Plan
from withstand.core.runner import Access
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import Function, ModelLike


@dataclass(frozen=True)
class Order:
    """The parameters of `withstand.attack`, read: see there."""

    model: ModelLike
    data: DataLike
    threat: str | Threat
    attacks: Attacks
    property: str | Property = "argmax"
    limit: int | None = None
    seconds: float | None = None
    queries: int | None = None
    access: Access = Access.GRADIENT
    draws: int = 1
    surrogate: "ModelLike | None" = None
    train: "DataLike | None" = None
    closest: bool = False
    radii: Sequence[float] = ()
    out: str | PathLike[str] | None = None
    seed: int = 0
    device: str = "cpu"
    progress: Listener | None = None

    def __post_init__(self) -> None:
        if not self.attacks:
            raise InputError("No attack is named; write for example pgd:steps=100,restarts=5.")
        if self.draws < 1:
            raise InputError(f"There must be at least one draw of a random model, not {self.draws}.")


def carry_out(order: Order) -> Attacked:
    """Pose the question, let every attack see every sample, and keep a run folder where one is named."""
    o = order
    with (
        pose(o.model, o.data, o.threat, o.property, limit=o.limit, device=o.device) as question,
        stand_in(o.surrogate, question) as seen,
    ):
        radii = _radii(o.radii, question.threat)
        means = Means(o.access, seen, o.draws, o.queries, nearest=o.closest, radii=radii, seed=o.seed)
        check_attacks(question, means, o.attacks)
        means = replace(means, before=_asked(question))
        fitting = Fitting(question, o.attacks, o.train, means, o.seconds, o.out)
        question = fitting.question
        if o.out is None:
            campaign = Campaign(question, means, fitting.fit(), o.seconds, o.progress)
            return attacked(campaign, fitting.figures, campaign.go())
        folder = RunFolder(o.out)
        folder.open()
        try:
            ledger = Ledger(_plan(order, fitting), question, folder, Budget())
            campaign = Campaign(question, means, fitting.fit(), o.seconds, o.progress, ledger)
            return attacked(campaign, fitting.figures, campaign.go())
        finally:
            folder.close()


def _asked(question: Question) -> int:
    """Rows a sample, rounded up, that a function of the user's has been asked about so far."""
    module = question.model.module
    return -(-module.rows // len(question.data)) if isinstance(module, Function) else 0


def _radii(radii: Sequence[float], threat: Threat) -> tuple[float, ...]:
    """The radii of a curve in rising order, as a plan of it would read back."""
    if radii and not (threat.radius > 0 and all(0 < radius < math.inf for radius in radii)):
        raise InputError("The radii of a curve, and the threat's own, must be positive numbers; correct them.")
    return radii_of(_curve_plan(radii, threat), threat)


def _curve_plan(radii: Sequence[float], threat: Threat) -> Plan:
    return Plan(model="", data="", threat="", curve=[radius / threat.radius for radius in radii])


def _plan(order: Order, fitting: Fitting) -> Plan:
    question, means = fitting.question, fitting.means
    base = _curve_plan(means.radii, question.threat).model_copy(
        update={
            "verb": "attack",
            "attacks": list(order.attacks),
            "queries": means.queries,
            "access": means.access.value,
            "draws": means.draws,
            "surrogate": None if order.surrogate is None else name_of_source(order.surrogate),
            "train": None if order.train is None else name_of_source(order.train),
            "skip": fitting.skip,
            "closest": means.nearest,
        }
    )
    return make_plan(
        name_of_source(order.model),
        name_of_source(order.data),
        order.threat,
        str(question.property),
        limit=order.limit,
        seed=means.seed,
        budget=order.seconds,
        base=base,
    )
