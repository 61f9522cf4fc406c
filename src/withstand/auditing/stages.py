"""The order of an audit, cheap to dear, on the samples that are still open."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from torch import Tensor

from withstand.auditing.alarms import LUCK
from withstand.auditing.block import Block, Setup
from withstand.auditing.curve import Reach
from withstand.auditing.witnesses import make_witness
from withstand.core.attack import misfit
from withstand.core.budget import Budget
from withstand.core.judge import Contradiction, Status
from withstand.core.records import SampleRecord
from withstand.core.registry import build, components, name_of
from withstand.core.runner import Access, Attack
from withstand.core.threat import Threat
from withstand.io.witness import Witness
from withstand.verification.certificates import ENDING
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


@dataclass(frozen=True)
class Fault:
    """A contradiction of the tool: a bound, and the point that shows it wrong (a witness if the bound is a proof)."""

    sentence: str
    witness: Witness
    bound: float
    proved_by: str


@dataclass
class Settled:
    """The results of one block: records, witnesses by sample, certificates by file, seconds by side, and the fault that
    ended it, if any."""

    records: list[SampleRecord] = field(default_factory=list)
    witnesses: dict[int, Witness] = field(default_factory=dict)
    certificates: dict[str, bytes] = field(default_factory=dict)
    attack_seconds: float = 0.0
    verify_seconds: float = 0.0
    fault: Fault | None = None


Stage = tuple[str, Callable[[Budget], None]]


def settle(
    setup: Setup,
    replay: Callable[[Tensor], Tensor] | None,
    x0: Tensor,
    y: Tensor,
    ids: list[int],
    seconds: float | None,
    say: Callable[[str], None],
) -> Settled:
    """Settle a block of samples x0 [B, *shape] with targets y [B] within a time; `say` is told each stage's name.

    Each stage may take an equal share of the time that is left, so that none starves. Where a time was given, what the
    stages left of it goes to the last verifier, which works on what is still open without its own limit of work.
    """
    budget = Budget(seconds)
    block = Block(setup, replay, x0, y, ids)
    reach: Reach | None = None
    try:
        stages = _stages(block)
        for number, (name, stage) in enumerate(stages):
            say(name)
            stage(budget.share(1 / (len(stages) - number + bool(setup.radii))))
        if setup.radii:
            say("curve")
            reach = Reach(block)
            attack = _probe(SHORT, setup.threat)
            reach.walk(attack, setup.verifiers[:2][-1] if setup.verifiers else None, budget)
        if setup.verifiers and seconds is not None and len(block.open) and not budget.spent:
            patient = patiently(setup.verifiers[-1])
            say(name_of(patient))
            _prove_open(block, patient, budget)
        if reach is not None:
            reach.settle_own()
    except Contradiction as clash:
        return Settled(fault=_fault(block, clash))
    return _settled(block, reach)


def patiently(verifier: Verifier) -> Verifier:
    """A verifier without its limit of work, if it has one."""
    return replace(verifier, effort=None) if isinstance(verifier, BranchAndBound) else verifier


def _stages(block: Block) -> list[Stage]:
    setup = block.setup
    early, late = setup.attacks[:2], setup.attacks[2:]
    alarms = [attack for attack in late if attack.access is Access.SCORES]
    dear = [attack for attack in late if attack.access is not Access.SCORES]
    stages: list[Stage] = [(name_of(v), partial(_prove_open, block, v)) for v in setup.verifiers[:1]]
    stages += [(name_of(a), partial(_attack_open, block, a)) for a in early]
    stages += [(name_of(v), partial(_prove_open, block, v)) for v in setup.verifiers[1:2]]
    stages += [(name_of(a), partial(_attack_open, block, a)) for a in dear]
    stages += [(name_of(v), partial(_prove_open, block, v)) for v in setup.verifiers[2:]]
    if any(attack.access is Access.GRADIENT for attack in setup.attacks):
        one_step = _probe(ONE_STEP, setup.threat)
        if one_step is not None:
            stages.append((ONE_STEP, partial(_attack_open, block, one_step, flag="one-step")))
        stages += [(name_of(a), partial(_attack_sampled, block, a)) for a in alarms]
        stages.append((ENSEMBLE, partial(_attack_misled, block)))
        stages.append(("wide pgd", partial(_attack_wide, block)))
    if block.proofs is not None:
        stages.append(("certificates", block.certify))
    return stages


def _probe(text: str, threat: Threat) -> Attack | None:
    """An attack of the audit's own, where it works in the threat's norm."""
    if text.partition(":")[0] not in components("attack"):
        return None
    attack = build("attack", text)
    return attack if threat.norm in attack.norms else None


def _attack_open(block: Block, attack: Attack, budget: Budget, flag: str | None = None) -> None:
    block.attack(attack, block.open, budget, flag=flag)


def _attack_sampled(block: Block, attack: Attack, budget: Budget) -> None:
    block.attack(attack, block.sampled(block.open), budget, flag="black-box")


def _attack_misled(block: Block, budget: Budget) -> None:
    """Run the standard ensemble on all open rows where the alarms saw that gradients mislead."""
    hits = sum("black-box" in flags for flags in block.flags)
    seen = hits + sum("black-box-miss" in flags for flags in block.flags)
    attack = _probe(ENSEMBLE, block.setup.threat)
    if attack is None or hits < SURPRISES or hits <= LUCK * seen:
        return
    if misfit(attack, block.setup.threat.norm, block.setup.property.losses) is None:
        block.attack(attack, block.open, budget)


def _prove_open(block: Block, verifier: Verifier, budget: Budget) -> None:
    if len(block.open):
        block.prove(verifier, block.open, budget)


def _attack_wide(block: Block, budget: Budget) -> None:
    """Mark open rows that gradients cannot refute even when the whole domain is allowed."""
    threat, rows = whole_domain(block.setup.threat, block.x0), block.sampled(block.open)
    attack = None if threat is None else _probe(WIDE, threat)
    if attack is None or threat is None or len(rows) == 0 or budget.spent:
        return
    with block.timed("attack", rows):
        found = block.run(attack, rows, threat, budget)
    for row, refuted in zip(rows.tolist(), found.refuted.tolist(), strict=True):
        block.flags[row].add("wide-hit" if refuted else "wide-miss")


def whole_domain(threat: Threat, x0: Tensor) -> Threat | None:
    """The threat with a radius that reaches the whole domain, or None where no radius does."""
    radius = threat.widest(x0)
    return None if radius is None or not np.isfinite(radius) else threat.at(radius)


def _settled(block: Block, reach: Reach | None) -> Settled:
    judge = block.judge
    for row, _ in judge.disagreements:
        block.flags[row].add("replay-disagrees")
    refuted = [i for i, status in enumerate(judge.status) if status is Status.REFUTED]
    threat = block.setup.threat
    moves = judge.point if threat.rendered else dict.fromkeys(refuted)
    witnesses = {
        block.ids[i]: _witness(block, i, judge.witness[i], moves[i], judge.found_by[i], threat) for i in refuted
    }
    records = [_record(block, reach, i, witnesses.get(block.ids[i])) for i in range(len(block.ids))]
    files = {_file(block, row): held for row, held in block.certificates.items()}
    return Settled(records, witnesses, files, block.spent["attack"], block.spent["verify"])


def _file(block: Block, row: int) -> str:
    """The file of a row's certificate, relative to the run folder."""
    return f"certificates/{block.ids[row]}{ENDING}"


def _record(block: Block, reach: Reach | None, row: int, witness: Witness | None) -> SampleRecord:
    judge = block.judge
    bound, grade = float(judge.bound[row]), judge.grade[row]
    certified, attacked = (None, None) if reach is None else (float(reach.certified[row]), float(reach.attacked[row]))
    return SampleRecord(
        id=block.ids[row],
        label=float(block.setup.property.label(block.y[row : row + 1])[0]),
        predicted=block.predicted[row],
        status=judge.status[row].value,
        reason=_reason(block, row),
        method=judge.method[row],
        grade=None if grade is None else grade.value,
        clean_margin=float(block.clean[row]),
        margin=float(judge.margin[row]),
        bound=bound if np.isfinite(bound) else None,
        distance=None if witness is None else witness.distance,
        adversarial=None if witness is None else witness.adversarial,
        witness=None if witness is None else f"witnesses/{witness.id}.npz",
        certificate=_file(block, row) if row in block.certificates else None,
        queries=int(block.queries[row]),
        gradients=int(block.gradients[row]),
        seconds=float(block.seconds[row]),
        certified_radius=None if certified is None or np.isnan(certified) else certified,
        attacked_radius=None if attacked is None or np.isnan(attacked) else attacked,
        flags=sorted(block.flags[row]),
    )


def _reason(block: Block, row: int) -> str:
    judge = block.judge
    if judge.status[row] is Status.PROVED and block.setup.certificates and row not in block.certificates:
        return f"no certificate: {block.uncertified.get(row) or block.setup.checked}"
    if judge.status[row] is not Status.UNKNOWN:
        return ""
    bound = float(judge.bound[row])
    proof = f"the best proven bound is {bound:.4g}" if np.isfinite(bound) else "no bound was computed"
    stopped = {"time": "; the time ran out", "queries": "; the queries ran out"}.get(block.stopped[row] or "", "")
    return f"attacks brought the margin to {float(judge.margin[row]):.4g}, {proof}{stopped}"


def _witness(block: Block, row: int, x: Tensor, move: Tensor | None, method: str, threat: Threat) -> Witness:
    setup, sample = block.setup, (block.ids[row], block.x0[row], block.y[row])
    outputs = setup.model(x[None]).detach()
    margin = float(setup.property.margin(outputs, block.judge.y[row : row + 1])[0])
    answer, model = block.answers(outputs)[0], setup.model.digest()
    return make_witness(
        threat, setup.property, sample, x, move, answer=answer, margin=margin, method=method, model=model
    )


def _fault(block: Block, clash: Contradiction) -> Fault:
    row = clash.row
    point = _witness(block, row, clash.x, None, clash.found_by, clash.threat)
    clash.row = block.ids[row]
    return Fault(str(clash), point, clash.bound, clash.proved_by)
