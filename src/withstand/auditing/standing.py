"""What a set of weights withstands on held-out samples: an audit, and the accuracy that one attack alone leaves."""

from pathlib import Path

from withstand.auditing.audit import audit
from withstand.auditing.plan import make_plan
from withstand.core.harden_records import Standing
from withstand.core.records import Plan
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.core.threat import Threat
from withstand.graph.model import Model
from withstand.io.data import Data

PGD = "pgd:steps=40"
"""The attack whose accuracy is told by itself."""

VERIFIERS = ("ibp", "crown")
"""Proofs of the audits before and after a training: the cheap ones. `withstand audit` looks for more."""


def plan_of(model: str, data: Data, threat: Threat, limit: int, seed: int) -> Plan:
    """The plan of an audit before or after a training."""
    plan = make_plan(model, data.name, threat, limit=limit, seed=seed)
    return plan.model_copy(update={"verifiers": list(VERIFIERS)})


def stand(model: Model, data: Data, threat: Threat, limit: int, seed: int, out: Path) -> Standing:
    """The figures of a model on the first `limit` samples of held-out data, by an audit whose run folder is `out`.

    PGD counts by itself on all samples, so that it can be compared with the attacks together.
    """
    plan = plan_of(model.name, data, threat, limit, seed)
    found = audit(model, data, threat=threat, out=out, plan=plan)
    return alone(model, data, threat, limit, seed).model_copy(
        update={
            "n": found.n,
            "clean_accuracy": found.clean_accuracy,
            "attacked_accuracy": found.attacked_accuracy,
            "certified_accuracy": found.certified_accuracy,
        }
    )


def alone(model: Model, data: Data, threat: Threat, limit: int, seed: int) -> Standing:
    """The clean accuracy on the first `limit` samples, and what PGD by itself leaves of it."""
    held = data.head(limit)
    found = run(build("attack", PGD), model, held.x, held.y, threat, ids=held.ids, seed=seed)
    clean = found.clean_margin > 0
    robust = clean & (found.margin > 0)
    return Standing(
        n=len(held),
        clean_accuracy=float(clean.double().mean()),
        pgd_accuracy=float(robust.double().mean()),
        pgd_attack=PGD,
    )
