"""Does the model answer the same twice, without asking for gradients, and in logits?"""

import torch
from torch import Tensor

from withstand.auditing.masking.subject import Subject, skipped
from withstand.core.oracle import call
from withstand.core.property import Argmax
from withstand.core.records import Check
from withstand.core.shapes import flattened
from withstand.graph.ir import Graph

REPEATS = 5
"""Passes over the same inputs."""

APART = 1e-4
"""Answers that differ by more than this share of the largest output (at least 1) are random."""


def largest_change(answers: list[Tensor]) -> float:
    """The largest difference of several answers to the same inputs, as a share of the largest output, at least 1."""
    stacked = torch.stack(answers)
    spread = (stacked.amax(0) - stacked.amin(0)).max()
    return float(spread / stacked.abs().max().clamp(min=1))


def are_probabilities(outputs: Tensor) -> bool:
    """Whether outputs [n, K] lie in [0, 1] and sum to 1."""
    sums = flattened(outputs).sum(1)
    return bool(((outputs >= 0) & (outputs <= 1)).all()) and bool(((sums - 1).abs() < 1e-3).all())


def determinism(subject: Subject) -> Check:
    """WARN: repeated passes over the same inputs differ, or name other answers."""
    answers = [subject.outputs(subject.x0) for _ in range(REPEATS)]
    named = torch.stack([subject.asked.answer(one) for one in answers])
    change, unsteady = largest_change(answers), (named != named[0]).any(0)
    figures = {"largest_change": change, "samples_unsteady": float(unsteady.double().mean()), "passes": REPEATS}
    if change > APART or bool(unsteady.any()):
        sentence = (
            f"{REPEATS} passes over the same inputs differ by up to {change:.2g} of the largest output: the model is "
            "random, and attacks must average over draws (--eot)."
        )
        samples = subject.numbers(unsteady)
        return Check(name="determinism", outcome="warn", sentence=sentence, figures=figures, samples=samples)
    sentence = f"{REPEATS} passes over the same inputs agree."
    return Check(name="determinism", outcome="pass", sentence=sentence, figures=figures)


def gradients_in_forward(subject: Subject) -> Check:
    """WARN: the model runs autograd to answer, so it changes its input or itself while it is attacked."""
    name = "autograd in forward"
    if isinstance(subject.model.module, Graph):
        return Check(name=name, outcome="pass", sentence="The model is a graph of operators, which asks no gradients.")
    count = backward_passes(subject)
    figures = {"saved_tensors_read": count}
    if count:
        sentence = (
            "The model asks for gradients while it answers: it adapts to its input, and an attack must go through that "
            "adaptation, or its numbers are too good."
        )
        return Check(name=name, outcome="warn", sentence=sentence, figures=figures)
    return Check(name=name, outcome="pass", sentence="The model answers without asking for gradients.", figures=figures)


def backward_passes(subject: Subject, rows: int = 16) -> int:
    """How many tensors that autograd had kept for a backward pass were read while the model answered: 0 for a model
    that only goes forward. Transforms of torch.func refuse to be watched, which counts as one."""
    read = 0

    def unpack(kept: Tensor) -> Tensor:
        nonlocal read
        read += 1
        return kept

    subject.forward += rows
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, unpack):
        try:
            subject(subject.x0[:rows].detach())
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):
                raise
            return 1
    return read


def logits(subject: Subject) -> Check:
    """WARN: the outputs are probabilities, so a softmax flattens the gradients before the loss."""
    if not isinstance(subject.asked, Argmax):
        return skipped("logits", f"the property {subject.asked} does not read logits of classes.")
    if are_probabilities(call(subject.outputs, subject.x0)):
        sentence = "The outputs are probabilities: a softmax before the loss flattens gradients; remove it."
        return Check(name="logits", outcome="warn", sentence=sentence)
    return Check(name="logits", outcome="pass", sentence="The outputs are no probabilities.")
