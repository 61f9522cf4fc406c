"""The active test: an adversarial example is planted for each sample, and the attack must find it.

Zimmermann et al. 2022 (arXiv:2206.13991): a new linear head tells one random point at the edge of the threat from many
random points inside it, on the features of the network. That one point is then an adversarial example by construction.
An attack that does not find one has failed on this network, whatever it says of its robustness.

The head here is the ridge solution in closed form (theirs is a logistic regression), and what counts as passing is
this project's choice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.auditing.masking.features import features_of
from withstand.auditing.masking.subject import WALKS, Subject, skipped
from withstand.core.outputs import Linear
from withstand.core.records import Check
from withstand.core.registry import build
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import run
from withstand.core.threat import Threat

NORMS = ("linf", "l2", "l1")
"""Threats that have an edge and an inside."""

SAMPLES = 64
"""Samples an example is planted for, at most."""

INSIDE = 200
"""Random points of the smaller ball, the clean input aside, that the head must not take for the planted one."""

SHRUNK = 0.95
"""Radius of the smaller ball, as a share of the threat's; as in the paper's released code."""

RIDGE = 1e-3
"""Weight of the ridge, as a share of the features' mean variance."""

CLOSE = 0.9
"""Where the threshold lies on the way from the highest score inside (0) to the planted point's (1)."""

FOUND, MISSED = 0.95, 0.75
"""Shares of the planted examples that the attack finds: at least `FOUND` is a PASS, less than `MISSED` a FAIL."""

LUCKY = 0.5
"""A test says nothing if random points find more than this share."""

DRAWS = 50
"""Random points a sample that show what luck finds, half of them extreme."""


@dataclass(frozen=True)
class Heads:
    """One binary head a row: scores are weight [n, d] . features, and above threshold [n] is adversarial. planted:
    bool [n], the head tells the planted point from all points inside."""

    weight: Tensor
    threshold: Tensor
    planted: Tensor


def separate(inside: Tensor, edge: Tensor) -> Heads:
    """Heads that tell edge [n, d] from inside [n, m, d]: ridge discriminants, scaled so that the planted point's score
    is 1 above the highest inside. Solved in the span of the points inside, so the cost grows with m and not with d."""
    inside, edge = inside.double(), edge.double()
    middle = inside.mean(1)
    spread, towards = inside - middle[:, None], edge - middle
    points = inside.shape[1]
    gram = torch.bmm(spread, spread.mT)
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    shifted = gram + (points * ridge)[:, None, None] * torch.eye(points, dtype=gram.dtype, device=gram.device)
    seen = torch.bmm(spread, towards[:, :, None])
    weight = towards - torch.bmm(spread.mT, torch.linalg.solve(shifted, seen)).squeeze(2)
    scores = torch.bmm(inside, weight[:, :, None]).squeeze(2)
    top, reached = scores.amax(1), (edge * weight).sum(1)
    gap = reached - top
    planted = gap > 1e-6 * weight.square().sum(1).sqrt() * towards.square().sum(1).sqrt().clamp(min=1e-12)
    scale = torch.where(planted, gap, 1.0)
    return Heads(weight / scale[:, None], (top + CLOSE * gap) / scale, planted)


def planted_example(subject: Subject) -> Check:
    """PASS: walks by gradients find nearly all planted examples. WARN, FAIL: see `FOUND` and `MISSED`."""
    name, threat, rows = "planted example", subject.threat, subject.rows[:SAMPLES]
    if threat.norm not in NORMS:
        return skipped(name, f"an example is planted at the edge of a ball, and {threat.norm} is none.")
    if not len(rows):
        return skipped(name, "no sample is right when clean.")
    x0 = subject.x0[rows]
    features, where = features_of(subject.model, x0[:1])
    rng = RowRandom(row_seeds(subject.seed, subject.numbers(rows), "planted example").to(x0.device))
    inner = threat.at(SHRUNK * threat.radius)
    inside = [x0, *(inner.sample(x0, rng) for _ in range(INSIDE))]
    edge = threat.project(x0, threat.extreme(x0, rng.normal(x0.shape[1:], x0.dtype)))
    heads = separate(torch.stack([subject.outputs(x, features) for x in inside], 1), subject.outputs(edge, features))
    game = Linear(
        -heads.weight[:, None].to(x0.dtype),
        heads.threshold[:, None].to(x0.dtype),
        torch.zeros(1, dtype=torch.long, device=x0.device),
    )
    y = torch.arange(len(rows), device=x0.device)

    def margin(x: Tensor) -> Tensor:
        return game.margin(subject.outputs(x, features), y)

    valid = heads.planted & (margin(edge) <= 0) & (margin(x0) > 0)
    figures = {"planted": int(valid.sum()), "of": len(rows), "features": where}
    if int(valid.sum()) < max(1, len(rows) // 4):
        reason = (
            f"a head on the {where} tells the planted point apart for {int(valid.sum())} of {len(rows)} samples only."
        )
        return skipped(name, reason).model_copy(update={"figures": figures})
    lucky = torch.stack([margin(point) <= 0 for point in _random_points(threat, x0, rng)]).any(0) & valid
    chosen = valid.nonzero().squeeze(1)
    found = run(
        build("attack", WALKS),
        features,
        x0[chosen],
        y[chosen],
        threat,
        game,
        ids=subject.numbers(rows[chosen]),
        seed=subject.seed,
    )
    subject.forward += int(found.queries.sum())
    subject.backward += int(found.gradients.sum())
    share, luck = float(found.refuted.double().mean()), float(lucky.sum()) / len(chosen)
    figures |= {"found": share, "found_by_luck": luck}
    text = f"Walks by gradients find {share:.3f} of {len(chosen)} planted examples, {DRAWS} random points {luck:.3f}"
    if luck > LUCKY:
        return Check(name=name, outcome="note", sentence=f"{text}: too easy to tell anything.", figures=figures)
    outcome = "pass" if share >= FOUND else "warn" if share >= MISSED else "fail"
    end = "." if outcome == "pass" else ": it misses what is there, so what it leaves may not be robust."
    samples = subject.numbers(rows[chosen[~found.refuted]])
    return Check(name=name, outcome=outcome, sentence=text + end, figures=figures, samples=samples)


def _random_points(threat: Threat, x0: Tensor, rng: RowRandom) -> Iterator[Tensor]:
    """Points [n, *shape] of the threat, inside and at its extremes by turns."""
    for _ in range(DRAWS // 2):
        yield threat.sample(x0, rng)
        yield threat.extreme(x0, rng.normal(x0.shape[1:], x0.dtype))
