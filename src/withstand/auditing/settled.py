"""The results of a block of samples: records that hold what all attempts found, with their evidence."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from withstand.auditing.attempts import joined
from withstand.auditing.block import CERTIFICATES, Block
from withstand.auditing.curve import CURVE, Reach
from withstand.auditing.witnesses import make_witness
from withstand.core.judge import Contradiction, Status
from withstand.core.records import SampleRecord
from withstand.core.threat import Threat
from withstand.io.witness import Witness
from withstand.verification.certificates import ENDING

NOT_ATTACKED = "no attack has looked at it"


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


def gather(block: Block, reach: Reach | None) -> Settled:
    """What is known of a block's samples now. Raises Contradiction where a witness meets an earlier attempt's proof."""
    judge = block.judge
    for row, _ in judge.disagreements:
        block.flags[row].add("replay-disagrees")
    refuted = [i for i, status in enumerate(judge.status) if status is Status.REFUTED]
    threat = block.setup.threat
    moves = judge.point if threat.rendered else dict.fromkeys(refuted)
    witnesses = {
        block.ids[i]: _witness(block, i, judge.witness[i], moves[i], judge.found_by[i], threat) for i in refuted
    }
    if reach is not None:
        reach.settle_own()
    records = [_record(block, reach, i, witnesses.get(block.ids[i])) for i in range(len(block.ids))]
    files = {_file(block, row): held for row, held in block.certificates.items()}
    return Settled(records, witnesses, files, block.spent["attack"], block.spent["verify"])


def _file(block: Block, row: int) -> str:
    """The file of a row's certificate, relative to the run folder."""
    return f"certificates/{block.ids[row]}{ENDING}"


def _record(block: Block, reach: Reach | None, row: int, witness: Witness | None) -> SampleRecord:
    judge, before = block.judge, block.earlier[row]
    bound, grade = float(judge.bound[row]), judge.grade[row]
    certified, attacked = (None, None) if reach is None else (float(reach.certified[row]), float(reach.attacked[row]))
    now = SampleRecord(
        id=block.ids[row],
        label=float(block.setup.property.label(block.y[row : row + 1])[0]),
        predicted=block.predicted[row],
        status=judge.status[row].value,
        reason=_reason(block, row),
        method=judge.method[row],
        grade=None if grade is None else grade.value,
        clean_margin=float(block.clean[row]),
        margin=float(judge.margin[row]) if witness is not None else block.lowest(row),
        bound=bound if np.isfinite(bound) else None,
        distance=None if witness is None else witness.distance,
        adversarial=None if witness is None else witness.adversarial,
        witness=None if witness is None else f"witnesses/{witness.id}.npz",
        certificate=_file(block, row) if row in block.certificates else None,
        executed=judge.executed(row),
        queries=int(block.queries[row]),
        gradients=int(block.gradients[row]),
        seconds=float(block.seconds[row]),
        certified_radius=None if certified is None or np.isnan(certified) else certified,
        attacked_radius=None if attacked is None or np.isnan(attacked) else attacked,
        flags=sorted(block.flags[row]),
        attacked=bool(block.attacked[row]),
        tried=None if reach is None else sorted(reach.tried[row]),
    )
    if before is None:
        return _still_cut(block, row, now)
    if before.status == "proved" and now.status == "refuted":
        x, found_by, threat = judge.witness[row], judge.found_by[row], block.setup.threat
        raise Contradiction(row, x, now.margin, threat, found_by, before.bound or 0.0, before.method or "")
    return _still_cut(block, row, joined(before, now))


def _still_cut(block: Block, row: int, record: SampleRecord) -> SampleRecord:
    """The record with the methods that more time would go on with; a verdict leaves only those that come after it."""
    left = block.cut[row]
    if record.status != "unknown":
        after = {"proved": (CURVE, CERTIFICATES), "refuted": (CURVE,)}.get(record.status, ())
        left = {name: why for name, why in left.items() if name in after}
    return record.model_copy(update={"cut": left})


def _reason(block: Block, row: int) -> str:
    judge = block.judge
    if judge.status[row] is Status.PROVED and block.setup.certificates and row not in block.certificates:
        return f"no certificate: {block.uncertified.get(row) or block.setup.checked}"
    if judge.status[row] is not Status.UNKNOWN:
        return ""
    before = block.earlier[row]
    bound = max(float(judge.bound[row]), -np.inf if before is None or before.bound is None else before.bound)
    proof = f"the best proven bound is {bound:.4g}" if np.isfinite(bound) else "no bound was computed"
    proof = f"nothing can be proved: {judge.differs}".rstrip(".") if judge.differs is not None else proof
    seen = f"attacks brought the margin to {block.lowest(row):.4g}" if block.attacked[row] else NOT_ATTACKED
    stopped = "; the queries ran out" if block.stopped[row] == "queries" else ""
    late = [f"{name} ({why})" for name, why in block.cut[row].items()]
    return f"{seen}, {proof}{stopped}" + (f"; not finished: {', '.join(late)}" if late else "")


def _witness(block: Block, row: int, x: Tensor, move: Tensor | None, method: str, threat: Threat) -> Witness:
    setup, sample = block.setup, (block.ids[row], block.x0[row], block.y[row])
    outputs = setup.model(x[None]).detach()
    margin = float(setup.property.margin(outputs, block.judge.y[row : row + 1])[0])
    answer, model = block.answers(outputs)[0], setup.model.digest()
    return make_witness(
        threat, setup.property, sample, x, move, answer=answer, margin=margin, method=method, model=model
    )


def fault_of(block: Block, clash: Contradiction) -> Fault:
    """A contradiction with the evidence for both sides; its row becomes the sample's number."""
    row = clash.row
    point = _witness(block, row, clash.x, None, clash.found_by, clash.threat)
    clash.row = block.ids[row]
    return Fault(str(clash), point, clash.bound, clash.proved_by)
