"""Do attacks behave as they must: many steps at least as strong as one, converged, and stronger at larger radii?"""

from itertools import pairwise

import torch

from withstand.auditing.block import doubts
from withstand.auditing.masking.subject import WALKS, Subject, pgd, skipped
from withstand.auditing.stages import ONE_STEP, whole_domain
from withstand.core.property import Argmax
from withstand.core.records import Check
from withstand.core.registry import build
from withstand.core.threat import Threat

SLACK = 0.02
"""By how much accuracies that must be ordered may be out of order, by luck."""

STEPS_MATTER, RESTARTS_MATTER = 0.01, 0.02
"""Twice the steps, or starts anew, must not lower the accuracy by so much."""

RESTARTS = 10
"""Restarts of PGD in threats in which the walks of `worst` do not work."""

SHORT = 20
"""Steps of a restart, and of the walks at other radii."""

FALLING = 0.05
"""At most this share of the samples may have a margin that was still falling at the end."""

FACTORS = (0.5, 1.0, 2.0, 4.0)
"""Radii that are looked at, as multiples of the threat's."""


def one_step_and_many(subject: Subject, steps: int) -> Check:
    """One gradient step may not be stronger than many. FAIL: it is, by more than `SLACK`."""
    name = "one step against many"
    many, _ = subject.by_gradients(pgd(steps), subject.rows)
    if not subject.fits(ONE_STEP):
        return skipped(name, f"there is no attack of one step for {subject.threat.norm}.")
    one, _ = subject.by_gradients(ONE_STEP, subject.rows)
    figures = {"one_step_accuracy": subject.accuracy(one), "pgd_accuracy": subject.accuracy(many)}
    surprising = subject.numbers(one & ~many)
    text = f"One gradient step leaves {figures['one_step_accuracy']:.3f}, {steps} leave {figures['pgd_accuracy']:.3f}"
    if figures["one_step_accuracy"] < figures["pgd_accuracy"] - SLACK:
        sentence = f"{text}: the iterated attack loses its way, which a true gradient does not make it do."
        return Check(name=name, outcome="fail", sentence=sentence, figures=figures, samples=surprising)
    return Check(name=name, outcome="pass", sentence=f"{text}.", figures=figures, samples=surprising)


def convergence(subject: Subject, steps: int) -> Check:
    """Twice the steps from the same start, and walks of every kind from new starts, may not break much more; margins
    may not still be falling. WARN otherwise: the accuracy is not yet what attacks by gradients can do."""
    first, _ = subject.by_gradients(pgd(steps, "start=false"), subject.rows)
    rest = (subject.right & ~first).nonzero().squeeze(1)
    longer, found = subject.by_gradients(pgd(2 * steps, "start=false", pace=steps), rest)
    falling = torch.zeros_like(first)
    marks = ["still-falling" in seen for seen in doubts(build("attack", "pgd"), found)]
    falling[rest] = torch.tensor(marks, device=first.device, dtype=torch.bool)
    walks = WALKS if subject.fits(WALKS) else pgd(SHORT, f"restarts={RESTARTS}")
    few, _ = subject.by_gradients(walks, subject.rows)
    more, _ = subject.by_gradients(walks, (subject.right & ~few).nonzero().squeeze(1), again=1)
    figures = {
        f"accuracy_{steps}_steps": subject.accuracy(first),
        f"accuracy_{2 * steps}_steps": subject.accuracy(first | longer),
        "accuracy_walks": subject.accuracy(few),
        "accuracy_walks_restarted": subject.accuracy(few | more),
        "still_falling": float(falling.double().mean()),
    }
    by_steps, by_restarts = (float(hit.double().mean()) for hit in (longer, more))
    text = (
        f"Twice {steps} steps break {by_steps:.3f} of the samples more, walks from new starts {by_restarts:.3f}, and "
        f"{figures['still_falling']:.3f} were still falling"
    )
    if by_steps >= STEPS_MATTER or by_restarts >= RESTARTS_MATTER or figures["still_falling"] > FALLING:
        sentence = f"{text}: give attacks more steps and restarts than these."
        samples = subject.numbers(longer | more | falling)
        return Check(name="convergence", outcome="warn", sentence=sentence, figures=figures, samples=samples)
    return Check(name="convergence", outcome="pass", sentence=f"{text}.", figures=figures)


def larger_radii(subject: Subject) -> Check:
    """The accuracy may not rise with the radius, must be chance where every image may be made grey, and nothing may be
    left where the whole domain is allowed. FAIL otherwise."""
    name, threat = "larger radii", subject.threat
    widest = threat.widest(subject.x0)
    if widest is None:
        return skipped(name, f"the threat {threat} has no radius that reaches the whole domain.")
    radii = sorted({threat.at(factor * threat.radius).radius for factor in FACTORS})
    attack = pgd(SHORT)
    curve = {0.0: float(subject.right.double().mean())}
    for radius in (r for r in radii if r < widest):
        hit, _ = subject.attack(attack, subject.rows, threat.at(radius))
        curve[radius] = subject.accuracy(hit)
    faults, samples = [], []
    values = list(curve.values())
    if any(after > before + SLACK for before, after in pairwise(values)):
        faults.append("the accuracy rises with the radius")
    figures = {f"accuracy_at_{radius:.4g}": share for radius, share in curve.items()}
    grey = _grey(subject, attack, figures)
    if grey is not None:
        faults.append(grey)
    whole = whole_domain(threat, subject.x0)
    if whole is not None:
        hit, _ = subject.attack(pgd(SHORT, "start=false"), subject.rows, whole)
        figures["accuracy_whole_domain"] = subject.accuracy(hit)
        samples = subject.numbers(subject.right & ~hit)
        if figures["accuracy_whole_domain"] > SLACK:
            faults.append(f"{figures['accuracy_whole_domain']:.3f} are left where the whole domain is allowed")
    text = "Accuracy over the radius: " + ", ".join(f"{share:.3f} at {radius:.4g}" for radius, share in curve.items())
    if faults:
        sentence = f"{text}. {'; '.join(faults).capitalize()}: gradients do not lead where they should."
        return Check(name=name, outcome="fail", sentence=sentence, figures=figures, samples=samples)
    sentence = f"{text}; attacks are no weaker at larger radii" + (
        ", and succeed where the whole domain is allowed." if whole is not None else "; this domain has no end."
    )
    return Check(name=name, outcome="pass", sentence=sentence, figures=figures, samples=samples)


def _grey(subject: Subject, attack: str, figures: dict[str, float]) -> str | None:
    """In linf, at half the domain's width all inputs share a point, so no more can be robust than the best constant
    answer gets right. The sentence's part where more are left."""
    threat = subject.threat
    if threat.norm != "linf" or not isinstance(subject.asked, Argmax):
        return None
    middle = _half(threat)
    if middle is None:
        return None
    chance = float(subject.y.bincount().max()) / len(subject.y)
    hit, _ = subject.attack(attack, subject.rows, middle)
    figures |= {"accuracy_half_domain": subject.accuracy(hit), "chance": chance}
    if figures["accuracy_half_domain"] <= chance + SLACK:
        return None
    return f"{figures['accuracy_half_domain']:.3f} are left where all images may become the same grey"


def _half(threat: Threat) -> Threat | None:
    width = threat.domain[1] - threat.domain[0]
    return threat.at(width / 2) if width < float("inf") else None
