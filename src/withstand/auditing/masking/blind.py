"""Do attacks that see no gradients find what attacks by gradients do not?"""

import torch
from torch import Tensor

from withstand.auditing.block import NEAR
from withstand.auditing.masking.subject import Layer, Subject, pgd, skipped
from withstand.core.records import Check

FEW, MANY = 0.002, 0.02
"""Shares of the samples that only a blind attack breaks, out of the blue (see `withstand.auditing.block.NEAR`): more
than `FEW` is a WARN (the threshold above which the released AutoAttack warns), more than `MANY` a FAIL."""

BY_SCORES = ("square", "sparse-rs", "spsa")
"""Attacks that see scores only; each takes its number of queries."""


def black_box(subject: Subject, queries: int) -> Check:
    """What only attacks by scores break, example by example."""
    fitting = [attack for attack in BY_SCORES if subject.fits(attack)]
    if not fitting:
        return skipped("black box", f"no attack by scores works for {subject.threat.norm}.")
    hits = [_hit(subject, f"{attack}:queries={queries}") for attack in fitting]
    who = f"{' and '.join(fitting)} with {queries} queries"
    return weigh(subject, "black box", torch.stack(hits).any(0), who, {"queries": queries})


def random_noise(subject: Subject, draws: int) -> Check:
    """What only random points of the threat break."""
    if not subject.fits("noise"):
        return skipped("random noise", f"random points are not drawn for {subject.threat.norm}.")
    hit = _hit(subject, f"noise:draws={draws}")
    return weigh(subject, "random noise", hit, f"{draws} random points", {"draws": draws})


def transfer(subject: Subject, surrogate: Layer | None, steps: int) -> Check:
    """What only points found on another model break."""
    if surrogate is None:
        reason = "no other model was given whose adversarial examples could be tried; name one as surrogate."
        return skipped("transfer", reason)
    hit = _hit(subject, pgd(steps), surrogate)
    return weigh(subject, "transfer", hit, "points found on the surrogate", {})


def _hit(subject: Subject, attack: str, surrogate: Layer | None = None) -> Tensor:
    """bool [N]: what an attack breaks of the samples that gradients left."""
    hit, _ = subject.attack(attack, subject.left, surrogate=surrogate)
    subject.blind |= hit
    return hit


def weigh(subject: Subject, name: str, hit: Tensor, what: str, figures: dict[str, float]) -> Check:
    """The finding on samples [N] that something broke and gradients had not. Those that gradients had brought near to
    a violation are no surprise: on any model, one search finds by luck what another just misses."""
    surprising = hit & (subject.lowest > NEAR * subject.clean)
    share = float(surprising.double().mean())
    figures = {
        **figures,
        "share": share,
        "broken": float(hit.double().mean()),
        "gradient_accuracy": subject.accuracy(subject.broken),
    }
    text = f"{what[0].upper()}{what[1:]} break {int(hit.sum())} of {len(hit)} samples that gradients did not"
    text += f", {int(surprising.sum())} of them out of the blue" if bool(hit.any()) else ""
    outcome = "fail" if share > MANY else "warn" if share > FEW else "pass"
    end = "." if outcome == "pass" else ": something hides the way from attacks by gradients."
    return Check(name=name, outcome=outcome, sentence=text + end, figures=figures, samples=subject.numbers(hit))
