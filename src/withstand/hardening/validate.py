"""What a model withstands on the validation samples, by the attacks that audits use."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from withstand.attacks.fgsm import FGSM
from withstand.attacks.pgd import PGD
from withstand.bounds import lower_bound
from withstand.core.attack import Attack
from withstand.core.errors import InputError
from withstand.core.property import Argmax
from withstand.core.registry import name_of
from withstand.core.runner import run
from withstand.core.threat import Threat
from withstand.hardening.objective import Objective, base_of
from withstand.hardening.parts.live import live
from withstand.hardening.parts.modes import watching
from withstand.hardening.parts.noise import ForVote
from withstand.hardening.step import Stepper
from withstand.hardening.vote import vote


class Validation(NamedTuple):
    """Samples x [N, *shape] with classes y int64 [N] that neither train nor test, and the attack whose accuracy decides
    what is best.

    threat: what they are attacked within (None: the threat that is trained against). attack: 20 steps that cross the
    ball 2.5 times together, more than most objectives train with; parameters of `withstand.attacks.pgd`. samples beyond
    `limit` are not looked at.
    """

    x: Tensor
    y: Tensor
    threat: Threat | None = None
    attack: Attack = PGD(steps=20, step=0.125)
    limit: int = 1000


class Counts(NamedTuple):
    """How many of `total` samples are right when clean, under FGSM and under the attack, and how many interval bounds
    prove and the vote under noise withstands (0 where that was not asked)."""

    clean: int
    fgsm: int
    pgd: int
    interval: int
    smoothed: int
    total: int


def check_validation(validation: Validation, threat: Threat) -> None:
    """Raise InputError when epochs cannot be judged in the threat that is trained against."""
    norm = (validation.threat or threat).norm
    for attack in (FGSM(loss="ce"), validation.attack):
        if norm not in attack.norms:
            raise InputError(
                f"Epochs are judged by {name_of(attack)}, which works for {', '.join(attack.norms)}, not for {norm}; "
                "choose one of these threats."
            )


def count(
    module: nn.Module,
    validation: Validation,
    threat: Threat,
    rank: int = 0,
    processes: int = 1,
    interval: bool = False,
    sigma: float | None = None,
) -> Counts:
    """Count this process's share of the validation samples: every `processes`-th one. interval: bound them too. sigma:
    let them be voted on too, under noise of this standard deviation.

    The module's modes, gradients and statistics stay. One step goes along the cross-entropy, as objectives' steps do.
    """
    device = next(module.parameters()).device
    mine = torch.arange(min(validation.limit, len(validation.x)))[rank::processes]
    x, y, ids = validation.x[mine].to(device), validation.y[mine].to(device), mine.tolist()
    with watching(module, "eval"):
        one = run(FGSM(loss="ce"), module, x, y, threat, ids=ids)
        many = run(validation.attack, module, x, y, threat, ids=ids)
        proved = _proved(module, threat, x, y) if interval else 0
        voted = 0 if sigma is None else int(vote(module, x, y, threat, sigma, ids).sum())
    right = int((one.clean_margin > 0).sum())
    return Counts(right, int((one.margin > 0).sum()), int((many.margin > 0).sum()), proved, voted, len(x))


def shares(
    module: nn.Module, validation: Validation, objective: Objective, threat: Threat, stepper: Stepper
) -> dict[str, float]:
    """Shares of the validation samples, over all processes, by the names of an `EpochRecord`; what the objective is
    judged by is among them. threat: where the validation has none of its own."""
    base, threat = base_of(objective), validation.threat or threat
    judge = base.judged_by
    sigma = base.sigma if isinstance(base, ForVote) and judge == "smoothed" else None
    mine = count(module, validation, threat, stepper.rank, stepper.processes, judge == "interval", sigma)
    right = Counts(*map(round, stepper.total([float(part) for part in mine])))
    return {name: getattr(right, name) / right.total for name in dict.fromkeys(("clean", "fgsm", "pgd", judge))}


@torch.no_grad()
def _proved(module: nn.Module, threat: Threat, x: Tensor, y: Tensor) -> int:
    """Samples whose margins are above zero by interval bounds."""
    graph = live(module, x.shape[1:])
    rows = Argmax().rows(y, graph.output_shape[-1], x.dtype)
    return int((rows.combine(lower_bound("ibp", graph, threat, x, rows)) > 0).sum())
