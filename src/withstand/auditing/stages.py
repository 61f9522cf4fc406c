"""The order of an audit, cheap to dear, on the samples that are still open."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from withstand.auditing.alarms import LUCK
from withstand.auditing.block import CERTIFICATES, Block, Job, Setup
from withstand.auditing.curve import CURVE, Reach
from withstand.auditing.pricing import Prices, Work
from withstand.auditing.settled import Settled, fault_of, gather
from withstand.core.attack import misfit
from withstand.core.budget import Budget
from withstand.core.judge import Contradiction
from withstand.core.registry import build, components, describe, name_of
from withstand.core.runner import Access, Attack
from withstand.core.threat import Threat
from withstand.verification.methods.branch_and_bound import BranchAndBound
from withstand.verification.search import Verifier

ONE_STEP = "fgsm"
"""The attack of one step, which must not find what many steps did not."""

WIDE = "pgd:steps=20,start=false"
"""The attack that must succeed where the threat is the whole domain."""

SHORT = "pgd:steps=20"
"""The attack of the curve's other radii."""


ENSEMBLE = "standard"
"""The attack of all open rows where an alarm says that gradients mislead."""

SURPRISES = 3
"""Witnesses of a score-only attack, beyond what luck finds, that say so."""


Phase = Literal["all", "early", "late", "patient"]
"""What is done with a block: all stages without an end of the time; with one, first the stages that every sample needs,
then what those left, and last the last verifier without its own limit of work."""


@dataclass(frozen=True)
class Stage:
    """One method on a block. key: its name in records. early: every sample needs it. rows: those it is for. proves: it
    may give way where it settles nothing."""

    key: str
    name: str
    rows: Callable[[], Tensor]
    work: Work
    early: bool = False
    proves: bool = False


def settle(
    setup: Setup,
    replay: Callable[[Tensor], Tensor] | None,
    job: Job,
    phase: Phase,
    budget: Budget,
    prices: Prices,
    say: Callable[[str], None],
) -> Settled:
    """Settle a block of samples within a time; `say` is told each stage's name.

    Where the time has an end, a stage is begun on as many samples as its share is enough for, by `prices`: of the early
    stages each has half of what is left and the last all of it, the others have equal shares, so that none starves.
    What was not done is told in the records.
    """
    block = Block(setup, replay, job)
    reach = Reach(block) if setup.radii else None
    try:
        if phase == "patient":
            _go_on(block, budget, say)
        else:
            _run_stages(block, _stages(block, reach), phase, budget, prices, say)
        return gather(block, reach)
    except Contradiction as clash:
        return Settled(fault=fault_of(block, clash))


def _run_stages(
    block: Block, stages: list[Stage], phase: Phase, budget: Budget, prices: Prices, say: Callable[[str], None]
) -> None:
    now = [stage for stage in stages if stage.early or phase != "early"]
    for number, stage in enumerate(now):
        say(stage.name)
        after = sum(bool(len(_wanting(block, other))) for other in now[number + 1 :])
        share = budget.share((0.5 if after else 1.0) if phase == "early" else 1 / (1 + after))
        rows = _wanting(block, stage)
        gives_way = stage.proves and phase == "early"
        missed = prices.run(stage.key, rows, stage.work, lambda: len(block.open), share, yields=gives_way)
        for row in rows.tolist():
            block.cut[row].pop(stage.key, None)
        for part, why in missed:
            for row in part.tolist():
                block.cut[row][stage.key] = why
    for stage in stages:
        for row in [] if stage in now else _wanting(block, stage).tolist():
            block.cut[row].setdefault(stage.key, "not begun")


def _wanting(block: Block, stage: Stage) -> Tensor:
    rows = stage.rows()
    return rows if stage.key == CERTIFICATES else block.wanting(stage.key, rows)


def _go_on(block: Block, budget: Budget, say: Callable[[str], None]) -> None:
    """Spend what is left of the time on the open rows."""
    if block.setup.verifiers and len(block.open):
        patient = patiently(block.setup.verifiers[-1])
        say(name_of(patient))
        block.prove(patient, block.open, budget)


def patiently(verifier: Verifier) -> Verifier:
    """A verifier without its limit of work, if it has one."""
    return replace(verifier, effort=None) if isinstance(verifier, BranchAndBound) else verifier


def early_methods(setup: Setup) -> set[str]:
    """The names, in records, of the stages that every sample needs."""
    return {describe(one) for one in (*setup.verifiers[:2], *setup.attacks[:2])}


def _stages(block: Block, reach: Reach | None) -> list[Stage]:
    setup = block.setup
    early, late = setup.attacks[:2], setup.attacks[2:]
    alarms = [attack for attack in late if attack.access is Access.SCORES]
    dear = [attack for attack in late if attack.access is not Access.SCORES]
    stages = [_proving(block, v, early=True) for v in setup.verifiers[:1]]
    stages += [_attacking(block, a, early=True) for a in early]
    stages += [_proving(block, v, early=True) for v in setup.verifiers[1:2]]
    stages += [_attacking(block, a) for a in dear]
    stages += [_proving(block, v) for v in setup.verifiers[2:]]
    if any(attack.access is Access.GRADIENT for attack in setup.attacks):
        stages += _alarm_stages(block, alarms)
    if block.proofs is not None:
        stages.append(Stage(CERTIFICATES, CERTIFICATES, lambda: block.proved, block.certify, early=True))
    if reach is not None:
        attack, verifier = _probe(SHORT, setup.threat), setup.verifiers[:2][-1] if setup.verifiers else None
        valid = reach.right.nonzero().squeeze(1)
        stages.append(Stage(CURVE, CURVE, lambda: valid, partial(reach.walk, attack, verifier)))
    return stages


def _proving(block: Block, verifier: Verifier, early: bool = False) -> Stage:
    return Stage(
        describe(verifier), name_of(verifier), lambda: block.open, partial(block.prove, verifier), early, proves=True
    )


def _attacking(block: Block, attack: Attack, early: bool = False) -> Stage:
    return Stage(describe(attack), name_of(attack), lambda: block.open, partial(block.attack, attack), early)


def _alarm_stages(block: Block, scores: list[Attack]) -> list[Stage]:
    """Attacks that show whether gradients mislead, and what follows if they do."""
    stages, sampled = [], lambda: block.sampled(block.open)
    one_step = _probe(ONE_STEP, block.setup.threat)
    if one_step is not None:
        work = partial(block.attack, one_step, flag="one-step")
        stages.append(Stage(f"one step of {ONE_STEP}", ONE_STEP, lambda: block.open, work))
    for attack in scores:
        work = partial(block.attack, attack, flag="black-box")
        stages.append(Stage(describe(attack), name_of(attack), sampled, work))
    stages.append(Stage(ENSEMBLE, ENSEMBLE, lambda: block.open, partial(_attack_misled, block)))
    stages.append(Stage("wide pgd", "wide pgd", sampled, partial(_attack_wide, block)))
    return stages


def _probe(text: str, threat: Threat) -> Attack | None:
    """An attack of the audit's own, where it works in the threat's norm."""
    if text.partition(":")[0] not in components("attack"):
        return None
    attack = build("attack", text)
    return attack if threat.norm in attack.norms else None


def _attack_misled(block: Block, rows: Tensor, budget: Budget) -> Tensor:
    """Run the standard ensemble on rows where the alarms saw that gradients mislead."""
    hits = sum("black-box" in flags for flags in block.flags)
    seen = hits + sum("black-box-miss" in flags for flags in block.flags)
    attack = _probe(ENSEMBLE, block.setup.threat)
    if attack is None or hits < SURPRISES or hits <= LUCK * seen:
        return rows[:0]
    if misfit(attack, block.setup.threat.norm, block.setup.property.losses) is not None:
        return rows[:0]
    return block.attack(attack, rows, budget)


def _attack_wide(block: Block, rows: Tensor, budget: Budget) -> Tensor:
    """Mark rows that gradients cannot refute even when the whole domain is allowed."""
    threat = whole_domain(block.setup.threat, block.x0)
    attack = None if threat is None else _probe(WIDE, threat)
    if attack is None or threat is None or len(rows) == 0:
        return rows[:0]
    if budget.spent:
        return rows
    with block.timed("attack", rows):
        found = block.run(attack, rows, threat, budget)
    late = ~found.refuted if found.stopped == "time" else torch.zeros_like(found.refuted)
    for row, refuted in zip(rows[~late].tolist(), found.refuted[~late].tolist(), strict=True):
        block.flags[row].add("wide-hit" if refuted else "wide-miss")
    return rows[late]


def whole_domain(threat: Threat, x0: Tensor) -> Threat | None:
    """The threat with a radius that reaches the whole domain, or None where no radius does."""
    radius = threat.widest(x0)
    return None if radius is None or not np.isfinite(radius) else threat.at(radius)
