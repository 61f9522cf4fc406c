"""What attacks need of a question before the first of them runs: gradients, losses, a surrogate that fits."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from withstand.auditing.question import Question, in_eval_mode
from withstand.auditing.siege import Attacks, Means
from withstand.core.attack import check_fit
from withstand.core.errors import InputError
from withstand.core.oracle import Access, ModelRaised, call
from withstand.core.registry import name_of
from withstand.io.models import ModelLike, load_model


def check_attacks(question: Question, means: Means, attacks: Attacks) -> None:
    """Raise InputError unless every attack fits the threat, the property and what it may see."""
    for attack in attacks.values():
        check_fit(attack, question.threat.norm, question.property.losses, means.access, means.surrogate)
    walkers = [attack for attack in attacks.values() if attack.access is Access.GRADIENT]
    if walkers and (means.surrogate is not None or means.access is Access.GRADIENT):
        _check_gradient(question, means.surrogate or question.model, name_of(walkers[0]))


def _check_gradient(question: Question, model: Callable[[Tensor], Tensor], attack: str) -> None:
    x = question.x[:1].clone().requires_grad_()
    try:
        with torch.enable_grad():
            margin = question.property.margin(call(model, x), question.y[:1]).sum()
    except ModelRaised as raised:
        raise ModelRaised(0, raised.error, question.data.ids[0]) from raised
    slope = torch.autograd.grad(margin, x, allow_unused=True)[0] if margin.requires_grad else None
    if slope is None:
        raise InputError(
            f"The model has no gradient, which the attack {attack!r} needs; estimate it from scores with "
            "--access scores, or give the layer that has none a stand-in with withstand.bpda."
        )


@contextmanager
def stand_in(source: "ModelLike | None", question: Question) -> Iterator[Any]:
    """The surrogate that attacks see, in eval mode, on the question's device (None where none is asked for).

    Raises InputError when it cannot be loaded or has another input or number of outputs than the model.
    """
    if source is None:
        yield None
        return
    with in_eval_mode(source):
        try:
            surrogate = load_model(source, question.data.shape, question.data.x)
        except InputError as error:
            raise InputError(f"The surrogate cannot be used: {error}") from error
        if surrogate.dtype != question.model.dtype:
            raise InputError(
                f"The surrogate {surrogate.name} computes in {surrogate.dtype}, the model in {question.model.dtype}; "
                "give one of the same type."
            )
        have, want = ((m.input_shape, math.prod(m.output_shape)) for m in (surrogate, question.model))
        if have != want:
            raise InputError(
                f"The surrogate {surrogate.name} maps {_by(have[0])} to {have[1]} outputs, the model {_by(want[0])} to "
                f"{want[1]}; give one with the same input and outputs."
            )
        surrogate.module.eval()
        yield surrogate.to(question.device)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
