"""The doctor: what could make the numbers of an audit wrong, looked at before any attack."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from withstand.auditing.masking.outputs import are_probabilities, largest_change
from withstand.auditing.question import Question, pose
from withstand.bounds.support import unboundable
from withstand.core.arguments import checked
from withstand.core.property import Argmax, Property
from withstand.core.records import Check
from withstand.core.shapes import flattened
from withstand.core.threat import Threat
from withstand.core.tolerance import bytes_in, grid
from withstand.io.data import DataLike
from withstand.io.models import ModelLike

FEW = 256
"""Samples that checks look at which need no more."""

NORMALISATIONS = {
    "mean and std of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std of CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mean and std of MNIST": ((0.1307,), (0.3081,)),
    "mean and std of 0.5 (the range -1 to 1)": ((0.5,), (0.5,)),
    "the range 0 to 255": ((0.0,), (1 / 255,)),
}
"""What image models are usually trained on: name to mean and std of each channel."""

GAIN = 0.1
"""A normalisation is suspected if the accuracy with it is higher by more than this share of the samples."""

AVERAGES = "attack averages of its answers by `withstand attack --eot 32`"
"""What there is for random models."""

NUDGE = 1e-5
"""A change of the input, as a share of the domain's width, that any smooth model's float32 outputs show."""


@checked
def doctor(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    property: str | Property = "argmax",
    *,
    limit: int | None = None,
    device: str = "cpu",
) -> list[Check]:
    """Examine model, data and threat together; no attack is run. An outcome `fail` would stop an audit.

    Raises InputError when a part cannot be used at all.
    """
    with pose(model, data, threat, property, limit=limit, device=device) as question:
        return examine(question)


def examine(question: Question) -> list[Check]:
    """All checks on a question, those that can stop an audit first."""
    with torch.no_grad():
        ours = in_batches(question.model, question.x)
        checks = [*_data_notes(question), _mode(question), _finite(ours)]
        if checks[-1].outcome == "fail":
            return checks
        checks.append(_accuracy(question, ours))
        checks += [] if question.sides is None else [question.sides]
        checks += [_determinism(question), _domain(question), *_normalisation(question), *_logits(question, ours)]
        checks += [_small_changes(question, ours), *_same(question), _operators(question), _onnxruntime(question, ours)]
    return checks


def in_batches(f: Callable[[Tensor], Tensor], x: Tensor, rows: int = FEW) -> Tensor:
    """f(x), computed some rows at a time."""
    return torch.cat([f(part) for part in x.split(rows)])


def _share(question: Question, outputs: Tensor) -> float:
    return float((question.property.margin(outputs, question.y[: len(outputs)]) > 0).double().mean())


def _data_notes(question: Question) -> list[Check]:
    notes = [Check(name="data", outcome="note", sentence=note) for note in question.data.notes]
    notes += [Check(name="model", outcome="note", sentence=note) for note in question.model.notes]
    threat = question.threat
    if question.data.quantised and threat.levels is None and bytes_in(threat.domain) == grid(threat.domain, 255):
        hint = replace(threat, levels=255).text()
        sentence = f"The data is stored in 8 bits; if the deployed input is too, say so in the threat, as in {hint}."
        notes.append(Check(name="8-bit input", outcome="note", sentence=sentence))
    return notes


def _mode(question: Question) -> Check:
    if question.was_training:
        sentence = "The module was in training mode; it is in eval mode during the audit and restored afterwards."
        return Check(name="eval mode", outcome="note", sentence=sentence)
    return Check(name="eval mode", outcome="pass", sentence="The model is in eval mode.")


def _finite(outputs: Tensor) -> Check:
    bad = int((~flattened(outputs).isfinite().all(1)).sum())
    if bad:
        sentence = f"The model answers NaN or infinity on {bad} of {len(outputs)} clean inputs; repair the model first."
        return Check(name="finite outputs", outcome="fail", sentence=sentence)
    return Check(name="finite outputs", outcome="pass", sentence="All outputs on clean inputs are finite.")


def _accuracy(question: Question, ours: Tensor) -> Check:
    if question.model.source is not None and question.replay is not None:
        given, by = in_batches(question.replay, question.x), f"{question.replay.runtime} on the original file"
    else:
        given, by = in_batches(question.model.given, question.x), "the module as given"
    margins = [question.property.margin(outputs, question.y) for outputs in (given, ours)]
    right = [float((margin > 0).double().mean()) for margin in margins]
    rounding = 1e-4 * flattened(ours.abs()).amax(1).clamp(min=1)
    apart = ((margins[0] > 0) != (margins[1] > 0)) & (torch.maximum(margins[0].abs(), margins[1].abs()) > rounding)
    figures = {"as_given": right[0], "through_withstand": right[1]}
    if bool(apart.any()):
        sentence = (
            f"Clean accuracy is {right[0]:.4f} by {by} but {right[1]:.4f} through withstand ({int(apart.sum())} "
            f"samples differ); {_why_apart(question)}"
        )
        return Check(name="clean accuracy", outcome="fail", sentence=sentence, figures=figures)
    sentence = f"Clean accuracy is {right[1]:.4f}, the same by {by} and through withstand."
    return Check(name="clean accuracy", outcome="pass", sentence=sentence, figures=figures)


def _why_apart(question: Question) -> str:
    """What may be done about a model that answers otherwise than it did."""
    x = question.x[:FEW]
    if largest_change([question.model.given(x) for _ in range(2)]) > 0:
        return (
            f"the model answers otherwise each time it is asked: {AVERAGES}, or switch the randomness off for an audit."
        )
    return "does the model keep a state? Export it to ONNX and audit that file."


def _determinism(question: Question) -> Check:
    f = question.model.given
    change = largest_change([f(question.x[:FEW]) for _ in range(2)])
    if change > 1e-5:
        sentence = f"Two passes over the same inputs give different outputs: the model is random; {AVERAGES}."
        return Check(name="determinism", outcome="warn", sentence=sentence, figures={"largest_change": change})
    return Check(name="determinism", outcome="pass", sentence="Two passes over the same inputs agree.")


def _domain(question: Question) -> Check:
    low, high = float(question.x.min()), float(question.x.max())
    bottom, top = question.threat.domain
    figures = {"low": low, "high": high}
    text = f"Inputs range from {low:.4g} to {high:.4g}, the domain is [{bottom:g}, {top:g}]"
    if high - low < 0.05 * (top - bottom) and top - bottom < float("inf"):
        sentence = f"{text}: they fill hardly any of it; was the data scaled twice?"
        return Check(name="input range", outcome="warn", sentence=sentence, figures=figures)
    return Check(name="input range", outcome="pass", sentence=f"{text}.", figures=figures)


def _normalisation(question: Question) -> list[Check]:
    """Image inputs in [0, 1] only: is the model better on inputs normalised in one of the usual ways?"""
    shape = question.model.input_shape
    if len(shape) != 3 or question.threat.domain != (0.0, 1.0) or question.property.reads != "class":
        return []
    x = question.x[:FEW]
    plain = _share(question, question.model(x))
    figures = {"as given": plain}
    for name, (mean, std) in NORMALISATIONS.items():
        if len(mean) in (1, shape[0]):
            middle, width = (torch.tensor(values, device=x.device).reshape(-1, 1, 1) for values in (mean, std))
            figures[name] = _share(question, question.model((x - middle) / width))
    best = max(figures, key=lambda name: figures[name])
    if figures[best] > plain + GAIN:
        sentence = (
            f"With {best} the accuracy is {figures[best]:.3f} instead of {plain:.3f}: "
            "the model seems to expect normalised inputs; put the normalisation inside the model."
        )
        return [Check(name="normalisation", outcome="warn", sentence=sentence, figures=figures)]
    sentence = "No usual normalisation of the inputs raises the accuracy."
    return [Check(name="normalisation", outcome="pass", sentence=sentence, figures=figures)]


def _logits(question: Question, outputs: Tensor) -> list[Check]:
    if not isinstance(question.property, Argmax):
        return []
    if are_probabilities(outputs):
        sentence = "The outputs are probabilities: a softmax before the loss flattens gradients; remove it."
        return [Check(name="logits", outcome="warn", sentence=sentence)]
    if bool((outputs <= 0).all()) and bool(((flattened(outputs.exp()).sum(1) - 1).abs() < 1e-3).all()):
        return [Check(name="logits", outcome="note", sentence="The outputs are logarithms of probabilities.")]
    return [Check(name="logits", outcome="pass", sentence="The outputs are logits.")]


def _small_changes(question: Question, outputs: Tensor) -> Check:
    low, high = question.threat.domain
    x = question.x[:FEW]
    width = high - low if high - low < float("inf") else max(1.0, float(x.max() - x.min()))
    sign = torch.where(x + NUDGE * width <= high, 1.0, -1.0)
    same = flattened(question.model(x + NUDGE * width * sign) == question.model(x)).all(1)
    share = float(same.double().mean())
    if share > 0.5:
        sentence = (
            f"On {share:.0%} of the samples a small change of the input changes no output at all: "
            "the model rounds (quantises) its input or is saturated, and gradients say little."
        )
        return Check(name="small changes", outcome="warn", sentence=sentence, figures={"share": share})
    return Check(name="small changes", outcome="pass", sentence="Outputs follow small changes of the input.")


def _same(question: Question) -> list[Check]:
    """Whether what can be proved speaks of the module that was given."""
    graph, differs, name = question.model.graph, question.model.differs, "module and graph"
    if differs is not None:
        sentence = f"Nothing is proved about this model: {differs}"
        return [Check(name=name, outcome="warn", sentence=sentence)]
    if graph is None or graph is question.model.module:
        return []
    return [Check(name=name, outcome="pass", sentence="The module and its graph answer alike on the data.")]


def _operators(question: Question) -> Check:
    graph = question.model.graph
    if graph is None:
        sentence = f"Nothing can be proved about this model: {question.model.why_no_graph}"
        return Check(name="operators", outcome="warn", sentence=sentence)
    if not question.threat.provable:
        sentence = f"Nothing can be proved about the threat {question.threat}: the run attacks only."
        return Check(name="operators", outcome="note", sentence=sentence)
    missing = unboundable(graph)
    if missing:
        sentence = f"This model cannot be bounded, so nothing is proved: {' '.join(missing)}"
        return Check(name="operators", outcome="warn", sentence=sentence)
    kinds = len({node.op for node in graph.nodes})
    sentence = f"All {kinds} kinds of operator in the model can be bounded."
    return Check(name="operators", outcome="pass", sentence=sentence)


def _onnxruntime(question: Question, ours: Tensor) -> Check:
    name = "torch against onnxruntime"
    if question.replay is None:
        sentence = "The model has no ONNX form of its own function, so witnesses are replayed in the model itself."
        return Check(name=name, outcome="note", sentence=sentence)
    theirs, ours = in_batches(question.replay, question.x[:FEW]), ours[:FEW]
    change = float((theirs.reshape(ours.shape) - ours).abs().max())
    figures, by = {"largest_difference": change}, question.replay.runtime
    if change > 1e-3 * max(1.0, float(ours.abs().max())):
        sentence = f"torch and {by} disagree by up to {change:.3g} on clean inputs; export the model again."
        return Check(name=name, outcome="warn", sentence=sentence, figures=figures)
    instead = "" if by == "onnxruntime" else ", which stands in for onnxruntime: that has not all operators in float64"
    sentence = f"torch and {by} agree to {change:.2g} on clean inputs{instead}."
    return Check(name=name, outcome="pass", sentence=sentence, figures=figures)
