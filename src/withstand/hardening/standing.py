"""What a model withstands on a batch, from within anybody's loop, whatever gradient mode the loop runs in."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from withstand.attacks.pgd import PGD
from withstand.core.attack import Attack
from withstand.core.runner import run
from withstand.core.threat import Threat
from withstand.core.threat_text import parse_threat
from withstand.hardening.parts.modes import watching

ATTACK = PGD(steps=20, step=0.125)
"""The attack of withstand's own validation: steps that cross the ball 2.5 times together."""


class Standing(NamedTuple):
    """Per row, bool [B]: clean: right at x itself. robust: right there and at every point that the attack tried."""

    clean: Tensor
    robust: Tensor


def standing(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat | str,
    attack: Attack = ATTACK,
    ids: Sequence[int] | None = None,
) -> Standing:
    """Which rows of x [B, *shape] with classes y int64 [B] a model gets right, and which of these an attack breaks.

    The model is attacked in evaluation mode and its modes, gradients, statistics and the random state stay as they are.
    It works inside `torch.no_grad` and `torch.inference_mode`, where the validation loops of Lightning and others run
    and gradients of inputs cannot be taken otherwise: the inputs are cloned outside of that mode. attack: PGD of 20
    steps unless given. ids: the rows' numbers in the data, which seed their
    random starts (0, 1, ... unless given).
    """
    threat = parse_threat(threat) if isinstance(threat, str) else threat
    with watching(model, "eval"):
        x, y = x.detach().clone(), y.clone()
        found = run(attack, model, x, y, threat, ids=ids)
    return Standing(found.clean_margin > 0, found.margin > 0)
