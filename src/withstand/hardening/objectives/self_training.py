"""Robust self-training: rows without a label get one from the model as it was when the training began."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from withstand.core.errors import InputError
from withstand.core.registry import Count, NonNegative, Positive
from withstand.hardening.objective import Loss, Model, Objective, objective
from withstand.hardening.objectives.trades import farthest
from withstand.hardening.parts.ascent import looking
from withstand.hardening.parts.divergence import divergence
from withstand.hardening.parts.modes import watching
from withstand.hardening.state import State

HELD = "self-training.teacher/"
LABELS = "self-training.labels"


@objective
class SelfTraining(Objective):
    """Robust self-training (Carmon et al. 2019, arXiv:1905.13736): rows without a label (y = -1) count as of the class
    that a teacher gives them, and all rows count as in TRADES, cross-entropy plus beta times the divergence of the
    answers at the points where they differ most.

    The teacher is the model as it is at the first batch, so harden a trained model; or fill the labels in before, with
    `withstand.hardening.pseudo_label` and a teacher of your choice. Rows whose label is a teacher's count `weight`
    times in the cross-entropy, 1 as in the paper, whose batches are half unlabelled. beta, steps and step are those of
    TRADES.
    """

    unlabelled = True
    natural_at_zero = True

    beta: NonNegative = 6.0
    steps: Count = 10
    step: Positive = 0.226
    weight: NonNegative = 1.0

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The end of one walk up the divergence from the answers at x. Raises InputError when rows have no label and
        the teacher is no better than chance."""
        self._teach(model, x, y, state)
        return x if self.beta == 0 else farthest(model, x, state, self.steps, self.step)

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        outputs = model(x)
        clean = self._classes(outputs, y, state)
        if self.beta == 0 or at is x:
            return Loss(clean, {"clean": clean.detach()})
        robust = divergence(outputs, model(at)).mean()
        return Loss(clean + self.beta * robust, {"clean": clean.detach(), "divergence": robust.detach()})

    def _classes(self, outputs: Tensor, y: Tensor, state: State) -> Tensor:
        """The cross-entropy of labels and teacher's labels, the latter counted `weight` times."""
        without = y < 0
        if not bool(without.any()):
            return F.cross_entropy(outputs, y)
        each = F.cross_entropy(outputs, torch.where(without, state.held[LABELS], y), reduction="none")
        counts = torch.where(without, self.weight, 1.0).to(each)
        return (counts * each).sum() / counts.sum().clamp(min=1e-12)

    def _teach(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> None:
        """Keep the model of the first batch as the teacher, and the teacher's labels of each batch that needs some."""
        fresh = not any(name.startswith(HELD) for name in state.held)
        if fresh:
            weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            state.held.update({HELD + name: value.detach().clone() for name, value in weights.items()})
        if not bool((y < 0).any()):
            return
        teacher = {name.removeprefix(HELD): value for name, value in state.held.items() if name.startswith(HELD)}
        with looking(model, x, state) as x, watching(model, "eval"), torch.no_grad():
            outputs = functional_call(model, teacher, (x,))
        if fresh:
            refuse_guessing(outputs, y)
        state.held[LABELS] = outputs.argmax(1)


def refuse_guessing(outputs: Tensor, y: Tensor) -> None:
    """Raise InputError when logits [B, K] are right in so few of the rows with a label (y [B] at least 0) that guessing
    could be (three standard deviations above chance)."""
    labelled = y >= 0
    count, chance = int(labelled.sum()), 1 / outputs.shape[1]
    right = int((outputs.argmax(1) == y)[labelled].sum())
    if count and right <= count * chance + 3 * (count * chance * (1 - chance)) ** 0.5:
        raise InputError(
            f"The model is to label the rows without a label and is right in only {right} of {count} with one; start "
            "from a trained model, or fill the labels in before."
        )
