"""All findings on masked gradients, in one list."""

from collections.abc import Callable, Sequence

import torch

from withstand.auditing.masking.blind import black_box, random_noise, transfer
from withstand.auditing.masking.gradients import finite_differences, health, local_linearity
from withstand.auditing.masking.outputs import determinism, gradients_in_forward, logits
from withstand.auditing.masking.planted import planted_example
from withstand.auditing.masking.strength import convergence, larger_radii, one_step_and_many
from withstand.auditing.masking.subject import Layer, Subject
from withstand.auditing.question import Question, in_eval_mode, pose
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.records import Check
from withstand.core.shapes import flattened
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike, load_model

STEPS = 50
"""Steps of PGD; twice as many where convergence is looked at."""

QUERIES = 1000
"""Queries a sample of each blind attack, and random points."""

SAMPLES = 256
"""Samples looked at; a quarter of a percent of them is one sample."""


@checked
def masking(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    property: str | Property = "argmax",
    *,
    limit: int | None = SAMPLES,
    surrogate: "ModelLike | None" = None,
    steps: int = STEPS,
    queries: int = QUERIES,
    seed: int = 0,
    device: str = "cpu",
) -> list[Check]:
    """Look for signs that gradients are masked: that attacks fail without the model being robust.

    limit: the first samples of the data (default 256). surrogate: an independent model, whose adversarial examples are
    tried on this one. steps: of PGD. queries: a sample that each attack without gradients may spend, and random points.
    A robust network costs some thousand passes a sample, an undefended one some hundred; the last finding says how many
    it were, and what all attacks by gradients together left: a share that no finding changes.

    Each finding passes, warns, fails, or notes why a check does not apply; its `samples` are the numbers of those it is
    about. Raises InputError when an input cannot be used.
    """
    if steps < 1 or queries < 1:
        raise InputError(f"Checks of masking need at least 1 step and 1 query, not {steps} and {queries}.")
    with pose(model, data, threat, property, limit=limit, device=device) as question:
        if surrogate is None:
            return check_masking(question, None, steps=steps, queries=queries, seed=seed)
        with in_eval_mode(surrogate):
            other = load_model(surrogate, question.model.input_shape, question.data.x)
            if other.dtype != question.model.dtype:
                raise InputError(
                    f"The surrogate computes in {other.dtype}, the model in {question.model.dtype}; give its like."
                )
            if other.input_shape != question.model.input_shape:
                raise InputError(
                    f"The surrogate reads inputs of shape {other.input_shape}, the model {question.model.input_shape}; "
                    "give one that reads the same."
                )
            other.module.eval()
            return check_masking(question, other.to(question.device), steps=steps, queries=queries, seed=seed)


def check_masking(question: Question, surrogate: Layer | None, *, steps: int, queries: int, seed: int) -> list[Check]:
    """All findings on a question, see `masking`."""
    subject = Subject(
        question.model, question.x, question.y, list(question.data.ids), question.threat, question.property, seed
    )
    one_step = _counted(subject, lambda: one_step_and_many(subject, steps))
    found = [one_step, _counted(subject, lambda: convergence(subject, steps))]
    found.append(_counted(subject, lambda: larger_radii(subject)))
    healthy = _counted(subject, lambda: health(subject, steps))
    found.append(_counted(subject, lambda: black_box(subject, queries)))
    found.append(_counted(subject, lambda: random_noise(subject, queries)))
    found.append(_counted(subject, lambda: transfer(subject, surrogate, steps)))
    steady = _counted(subject, lambda: determinism(subject))
    found += [healthy, steady]
    rest: list[Callable[[], Check]] = [
        lambda: gradients_in_forward(subject),
        lambda: logits(subject),
        lambda: finite_differences(subject, random=steady.outcome != "pass"),
        lambda: local_linearity(subject, one_step),
        lambda: planted_example(subject),
        lambda: as_attacked(subject),
    ]
    found += [_counted(subject, check) for check in rest]
    return [*found, together(subject)]


def suspected(checks: Sequence[Check]) -> list[str]:
    """Names of the findings that failed: where there is one, masking is suspected."""
    return [check.name for check in checks if check.outcome == "fail"]


def as_attacked(subject: Subject) -> Check:
    """Whether gradients of the module are those of the graph that audits attack in its place."""
    name = "module and graph"
    graph, rows = subject.model.graph, subject.rows[:64]
    if graph is None or graph is subject.model.module or not len(rows):
        sentence = "The model is attacked as it was given."
        return Check(name=name, outcome="pass", sentence=sentence)
    x, y = subject.x0[rows], subject.y[rows]
    ours, given = (subject.gradient(x, y, "margin", f) for f in (subject.model, None))
    size = torch.maximum(flattened(ours).norm(dim=1), flattened(given).norm(dim=1)).clamp(min=1e-12)
    apart = flattened(ours - given).norm(dim=1) / size
    share = float((apart > 1e-2).double().mean())
    figures = {"samples_apart": share}
    if share > 0:
        sentence = (
            "The module's gradients are not those of the graph that audits attack: the graph leaves out what the "
            "module does on the way back, so audits may find more than these checks."
        )
        samples = subject.numbers(rows[apart > 1e-2])
        return Check(name=name, outcome="note", sentence=sentence, figures=figures, samples=samples)
    sentence = "Gradients of the module are those of the graph that audits attack."
    return Check(name=name, outcome="pass", sentence=sentence, figures=figures)


def together(subject: Subject) -> Check:
    """What all attacks together left, and what the findings cost."""
    left = subject.accuracy(subject.broken | subject.blind)
    passes = (subject.forward + subject.backward) / len(subject.ids)
    figures = {
        "samples": len(subject.ids),
        "clean_accuracy": float(subject.right.double().mean()),
        "attacked_accuracy": left,
        "forward": subject.forward,
        "backward": subject.backward,
        "passes_a_sample": passes,
    }
    sentence = (
        f"All attacks together leave {left:.3f} of {len(subject.ids)} samples, an upper end for what is robust that no "
        f"finding changes; {passes:.0f} passes a sample, forward and backward, were spent."
    )
    return Check(name="all attacks", outcome="note", sentence=sentence, figures=figures)


def _counted(subject: Subject, check: Callable[[], Check]) -> Check:
    """A check's finding with the passes it took a sample."""
    before = subject.forward + subject.backward
    found = check()
    spent = (subject.forward + subject.backward - before) / len(subject.ids)
    return found.model_copy(update={"figures": {**found.figures, "passes_a_sample": round(spent, 1)}})
