"""Shift consistency: attacks should move the features of a class all alike."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.core.registry import NonNegative
from withstand.core.shapes import flattened
from withstand.hardening.objective import Addition, Loss, LossFunction, addition
from withstand.hardening.parts.lending import inside, randomness
from withstand.hardening.state import State


@addition
class ShiftConsistency(Addition):
    """Add `weight` times the mean distance between the shift of a row's features, from the input to the point found,
    and the mean shift of its class in the batch (Reference: Zhang et al., Towards Better Robust Generalization with
    Shift Consistency Regularization, ICML 2021).

    The formula is our reading of the paper's idea, that the robust gap grows with inconsistent shifts of features; it
    is not checked against its text. Features are what enters the last linear layer. A class with one row in the batch
    adds nothing. weight: 0.1, our choice. It costs two more passes of the model, which leave its statistics alone.
    """

    coupled: ClassVar[bool] = True

    weight: NonNegative = 0.1

    def loss(self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        whole = rest(model, x, at, y, state)
        if self.weight == 0 or at is x:
            return whole
        uneven = dispersion(features(model, at) - features(model, x), y)
        return Loss(whole.value + self.weight * uneven, {**whole.logs, "shift": uneven.detach()})


def features(model: nn.Module, x: Tensor) -> Tensor:
    """What enters the last linear layer of the model at x [B, *shape]: [B, d]. Buffers and random states stay.

    Raises InputError when the model has no linear layer.
    """
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise InputError("shift-consistency needs a model with a linear layer at its end; this one has none.")
    seen: list[Tensor] = []
    handle = layers[-1].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with randomness(model):
            inside(model, buffers, lambda there: there(x))
    finally:
        handle.remove()
    return flattened(seen[-1])


def dispersion(shifts: Tensor, y: Tensor) -> Tensor:
    """The mean length of what remains of shifts [B, d] beside the mean of their class, over the rows with a class (y
    [B] at least 0); exactly 0 for a class of one row."""
    known = y >= 0
    shifts, y = shifts[known], y[known]
    classes, of = y.unique(return_inverse=True)
    totals = shifts.new_zeros(len(classes), shifts.shape[1]).index_add(0, of, shifts)
    means = totals / torch.bincount(of, minlength=len(classes)).clamp(min=1)[:, None]
    return torch.linalg.vector_norm(shifts - means[of], dim=1).sum() / max(1, len(shifts))
