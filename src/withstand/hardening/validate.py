"""What a model withstands on the validation samples, by the attacks that audits use."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from withstand.attacks.fgsm import FGSM
from withstand.attacks.pgd import PGD
from withstand.core.attack import Attack
from withstand.core.runner import run
from withstand.core.threat import Threat
from withstand.hardening.parts.modes import watching


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
    """How many of `total` samples are right when clean, under FGSM and under the attack."""

    clean: int
    fgsm: int
    pgd: int
    total: int


def count(module: nn.Module, validation: Validation, threat: Threat, rank: int = 0, processes: int = 1) -> Counts:
    """Count this process's share of the validation samples: every `processes`-th one.

    The module's modes, gradients and statistics stay. One step goes along the cross-entropy, as objectives' steps do.
    """
    device = next(module.parameters()).device
    mine = torch.arange(min(validation.limit, len(validation.x)))[rank::processes]
    x, y, ids = validation.x[mine].to(device), validation.y[mine].to(device), mine.tolist()
    with watching(module, "eval"):
        one = run(FGSM(loss="ce"), module, x, y, threat, ids=ids)
        many = run(validation.attack, module, x, y, threat, ids=ids)
    right = int((one.clean_margin > 0).sum())
    return Counts(right, int((one.margin > 0).sum()), int((many.margin > 0).sum()), len(x))
