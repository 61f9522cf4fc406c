"""Are gradients there, do they say what small changes do, and do they turn within the threat?"""

import torch
from torch import Tensor

from withstand.auditing.alarms import DEAD_SHARE
from withstand.auditing.masking.subject import Subject, pgd, skipped
from withstand.core.records import Check
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.shapes import flattened
from withstand.core.threat import rowwise

STRONGER = 0.05
"""A loss on the logits that leaves so much less than the cross-entropy shows that the latter saturates."""

DIRECTIONS = 16
"""Random directions along which slopes are compared."""

STEPS = (1e-3, 1e-2, 1e-1)
"""Lengths of a finite difference, as shares of the domain's width: the first that changes the margin is taken, so that
a staircase is met where its gradient, zero, is wrong."""

SHATTERED = 0.1
"""A median relative error above this says that the gradient is not the slope."""

ALIGNED = 0.3
"""A mean cosine below this says that the gradient at the clean input says little of the rest of the threat."""


def health(subject: Subject, steps: int) -> Check:
    """Gradients that are zero or no numbers, and a cross-entropy that saturates.

    FAIL: margins without gradient on more than `DEAD_SHARE` of the samples, or gradients that are no numbers. WARN:
    the cross-entropy's gradient is zero on so many, or a loss on the logits is stronger by more than `STRONGER`.
    """
    name, rows = "gradient health", subject.rows
    if not len(rows):
        return skipped(name, "no sample is right when clean.")
    x, y = subject.x0[rows], subject.y[rows]
    zero = {loss: _sizes(subject.gradient(x, y, loss)) for loss in ("margin", "smooth")}
    dead, flat = zero["margin"] == 0, zero["smooth"] == 0
    broken = ~torch.stack([size.isfinite() for size in zero.values()]).all(0)
    figures = {"zero_margin_gradients": _share(dead), "zero_loss_gradients": _share(flat), "not_finite": _share(broken)}
    gap, text = _saturation(subject, steps, figures)
    if bool(broken.any()):
        outcome, cause, marked = "fail", "gradients hold NaN or infinity", broken
    elif figures["zero_margin_gradients"] > DEAD_SHARE:
        outcome, cause, marked = "fail", f"the margin has no gradient at {_share(dead):.3f} of the inputs", dead
    elif figures["zero_loss_gradients"] > DEAD_SHARE:
        outcome, cause, marked = "warn", f"the loss has no gradient at {_share(flat):.3f} of the inputs", flat
    elif gap > STRONGER:
        outcome, cause, marked = "warn", "the cross-entropy saturates and hides what other losses find", flat
    else:
        outcome, cause, marked = "pass", "every gradient is there", flat & False
    sentence = f"{cause.capitalize()}. {text}".strip()
    return Check(name=name, outcome=outcome, sentence=sentence, figures=figures, samples=subject.numbers(rows[marked]))


def _saturation(subject: Subject, steps: int, figures: dict[str, float]) -> tuple[float, str]:
    """By how much attacks on the logits leave less than on the cross-entropy, and the sentence that says so."""
    if "ce" not in subject.asked.losses:
        return 0.0, f"The property {subject.asked} has no cross-entropy to compare with the margin."
    losses = [loss for loss in ("ce", "margin", "dlr") if loss in subject.asked.losses]
    for loss in losses:
        hit, _ = subject.by_gradients(pgd(steps, f"loss={loss}"), subject.rows)
        figures[f"{loss}_accuracy"] = subject.accuracy(hit)
    least = min(losses[1:], key=lambda loss: figures[f"{loss}_accuracy"])
    gap = figures["ce_accuracy"] - figures[f"{least}_accuracy"]
    text = (
        f"PGD leaves {figures['ce_accuracy']:.3f} by cross-entropy and {figures[f'{least}_accuracy']:.3f} by {least}."
    )
    return gap, text


def finite_differences(subject: Subject, random: bool) -> Check:
    """The slope by autograd against that of small changes, along random directions of signs. FAIL: they differ."""
    name, rows = "finite differences", subject.rows
    if random:
        return skipped(name, "the model is random, so small changes of the input drown in its noise.")
    if not len(rows):
        return skipped(name, "no sample is right when clean.")
    errors, autograd_zero = _errors(subject, rows)
    each = errors.nanmedian(1).values
    median = float(errors.flatten().nanmedian())
    wrong = each > SHATTERED
    figures = {
        "median_relative_error": median,
        "samples_apart": _share(wrong),
        "zero_gradients": _share(autograd_zero),
        "directions": DIRECTIONS,
    }
    if bool(errors.isnan().all()):
        sentence = "No small change of an input changes its margin, and the gradient is zero too: the model is flat."
        return Check(name=name, outcome="warn", sentence=sentence, figures=figures, samples=subject.numbers(rows))
    text = f"Autograd and finite differences along {DIRECTIONS} directions differ by {median:.2g} (median, relative)"
    if not median <= SHATTERED:
        sentence = (
            f"{text}: the gradient is not the slope; a layer rounds, decides or hides. Wrap it with withstand.bpda."
        )
        samples = subject.numbers(rows[wrong])
        return Check(name=name, outcome="fail", sentence=sentence, figures=figures, samples=samples)
    return Check(name=name, outcome="pass", sentence=f"{text}.", figures=figures, samples=subject.numbers(rows[wrong]))


def _errors(subject: Subject, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Relative errors [n, DIRECTIONS], nan where nothing changed; and which gradients [n] are zero."""
    low, high = subject.threat.domain
    width = high - low if high - low < float("inf") else float(subject.x0.max() - subject.x0.min())
    reach = STEPS[-1] * width
    x = subject.x0[rows].clamp(low + reach, high - reach)  # away from the edges, where models may clamp
    y = subject.y[rows]
    rng = RowRandom(row_seeds(subject.seed, subject.numbers(rows), "finite differences").to(x.device))
    gradient = subject.gradient(x, y, "margin")
    noise = 1e-5 * flattened(subject.outputs(x)).abs().amax(1).clamp(min=1)
    errors = []
    for _ in range(DIRECTIONS):
        direction = rng.signs(x.shape[1:], x.dtype)
        slope = flattened(gradient * direction).sum(1)
        taken = torch.full_like(slope, torch.nan)
        for step in STEPS:
            ends = [subject.asked.margin(subject.outputs(x + side * step * width * direction), y) for side in (1, -1)]
            rise = ends[0] - ends[1]
            difference = rise / (2 * step * width)
            error = (difference - slope).abs() / torch.maximum(difference.abs(), slope.abs())
            taken = torch.where(taken.isnan() & (rise.abs() > noise), error, taken)
            if not bool(taken.isnan().any()):
                break
        taken = torch.where(taken.isnan() & (slope != 0), 1.0, taken)
        errors.append(taken)
    return torch.stack(errors, 1), _sizes(gradient) == 0


def local_linearity(subject: Subject, one_step: Check) -> Check:
    """The cosine between gradients at the clean input and at random points of the threat (the measure of GradAlign,
    Andriushchenko and Flammarion 2020, arXiv:2007.02617). WARN: they have little in common."""
    name, rows = "local linearity", subject.rows
    if not len(rows):
        return skipped(name, "no sample is right when clean.")
    x, y = subject.x0[rows], subject.y[rows]
    rng = RowRandom(row_seeds(subject.seed, subject.numbers(rows), "local linearity").to(x.device))
    near = subject.threat.render(x, subject.threat.sample(x, rng))
    here, there = (flattened(subject.gradient(at, y, "smooth")).double() for at in (x, near))
    usable = (_sizes(here) > 0) & (_sizes(there) > 0) & (here.isfinite() & there.isfinite()).all(1)
    if not bool(usable.any()):
        return skipped(name, "no gradient of the loss is other than zero, see gradient health.")
    scaled = [grad / rowwise(_sizes(grad).clamp(min=1e-300), grad) for grad in (here[usable], there[usable])]
    cosine = torch.nn.functional.cosine_similarity(*scaled, dim=1)
    mean = float(cosine.mean())
    figures = {"mean_cosine": mean, "samples_used": int(usable.sum())}
    text = f"Gradients at clean inputs and at random points of the threat have a mean cosine of {mean:.2f}"
    if mean >= ALIGNED:
        return Check(name=name, outcome="pass", sentence=f"{text}.", figures=figures)
    gap = one_step.figures.get("one_step_accuracy", 0.0) - one_step.figures.get("pgd_accuracy", 0.0)
    fooled = (
        f" One step leaves {gap:.3f} more than many steps: so look models overfitted to one step." if gap > 0 else ""
    )
    sentence = f"{text}: one step says little of the whole threat.{fooled}"
    samples = subject.numbers(rows[usable][cosine < ALIGNED])
    return Check(name=name, outcome="warn", sentence=sentence, figures=figures, samples=samples)


def _sizes(gradient: Tensor) -> Tensor:
    """The largest entry [n] of each gradient, nan or infinite where one is."""
    return flattened(gradient).abs().amax(1)


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())
