"""The one place where evidence becomes a verdict.

A candidate is a witness only if, rounded to the declared input type, it lies in its threat, violates the property in
the model and violates it again in the replay (onnxruntime). A lower bound is a proof only if it clears zero by the
rounding error its arithmetic may hide. A question both refuted and proved is a fault of the tool, and so is a lower
bound above the margin of a point that was seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from withstand.core.arithmetic import Arithmetic
from withstand.core.errors import ToolFault
from withstand.core.evidence import Candidate, Evidence, Grade, Lower
from withstand.core.property import Property
from withstand.core.shapes import flattened
from withstand.core.threat import Threat

GUARD = {Grade.FLOAT32: 1e-5, Grade.FLOAT64: 1e-10, Grade.SLACK64: 0.0, Grade.LEAVES: 0.0}
"""How far above zero a bound must be to count as a proof, as a share of max(1, largest output), by arithmetic."""

RANK = {grade: number for number, grade in enumerate(Grade)}
"""Grades from weak to strong: a proof keeps the strongest it was given."""

ROUNDING = 1e-3
"""How far a bound may lie above the margin of a point, as a share of max(1, largest output): generous, because only a
wrong bound, not a rounded one, is a fault."""


def scale_of(outputs: Tensor) -> Tensor:
    """The size [B] of outputs [B, ...] that rounding errors grow with: the largest of each row, at least 1."""
    return flattened(outputs).abs().amax(1).nan_to_num(1.0, 1.0).clamp(min=1)


def needed(grade: Grade, outputs: Tensor) -> Tensor:
    """The bound [B] a proof must exceed, from the outputs [B, ...] at x0: rounding errors grow with them."""
    return GUARD[grade] * scale_of(outputs)


class Status(StrEnum):
    """What is known of one question."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"
    INVALID = "invalid"


class Contradiction(ToolFault):
    """A bound of `proved_by` that a point x of the threat, found by `found_by`, shows to be wrong: both are kept here.

    Either the point is a replayed witness and the bound a proof, or its margin lies clearly below the bound.
    """

    def __init__(
        self, row: int, x: Tensor, margin: float, threat: Threat, found_by: str, bound: float, proved_by: str
    ) -> None:
        self.row, self.x, self.margin, self.threat, self.found_by = row, x, margin, threat, found_by
        self.bound, self.proved_by = bound, proved_by
        super().__init__(row)

    def __str__(self) -> str:
        if self.margin <= 0:
            told = f"was refuted by {self.found_by} and proved by {self.proved_by} (bound {self.bound:.3g})"
        else:
            told = (
                f"has the margin {self.margin:.3g} at a point found by {self.found_by}, below the bound "
                f"{self.bound:.3g} of {self.proved_by}"
            )
        return f"Sample {self.row} {told}: withstand contradicts itself; please report it with the run folder."


@dataclass(frozen=True)
class Verdict:
    """The judge's word on one question.

    margin: the lowest margin seen at an admissible point (the witness's own if refuted). bound: the best sound lower
    bound on the margin (-inf: none). method: who settled it. witness: the input that violates the property.
    output: the model's outputs there. domains, open: parts of the threat that a search has bounded, and those it left.
    executed: of a proof, whether it holds for the network as it is run in its own float type, whose rounding errors
    are then known to be less than the bound; None where that was not asked, or nothing is proved.
    """

    status: Status
    margin: float
    bound: float
    method: str | None = None
    grade: Grade | None = None
    witness: Tensor | None = None
    output: Tensor | None = None
    reason: str = ""
    domains: int = 0
    open: int = 0
    executed: bool | None = None


@dataclass(frozen=True)
class Weighed:
    """Candidates [n] before the judge. x: the inputs as they reach the model. point: the same as points of the threat.

    suspect: they lie in the threat and violate the property in the model, so that the replay was asked. usable: they
    lie in the threat, and model and replay agree. violated: they are witnesses.
    """

    x: Tensor
    point: Tensor
    outputs: Tensor
    margin: Tensor
    suspect: Tensor
    usable: Tensor
    violated: Tensor


class Judge:
    """Hears evidence on N questions (x0 [N, *shape], y [N]) and keeps their verdicts.

    model and replay map a batch to outputs; replay runs the deployed form (onnxruntime), or None where the model has no
    such form, in which case the model itself is asked twice. A model whose bounds are those of another function says
    why in an attribute `differs`: they settle nothing. draws: of a random model, whose property holds where it
    does so in at least half of as many fresh answers. arithmetic: that of the network (None: taken for exact). Where it
    explains that a witness contradicts a proof, which speaks of real numbers, the witness stands and the bound falls by
    the network's rounding errors. Rows violated at x0 itself are invalid from the start,
    save where x0 is but a point of a box (`threat.anchored` is false): there it is a candidate like any other.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        replay: Callable[[Tensor], Tensor] | None,
        x0: Tensor,
        y: Tensor,
        threat: Threat,
        property: Property,
        draws: int = 1,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.model, self.replay, self.threat, self.property = model, replay or model, threat, property
        self.x0, self.y, self.draws, self.arithmetic = x0, y, draws, arithmetic
        self.differs: str | None = getattr(model, "differs", None)
        with torch.no_grad():
            outputs, self.clean = self._ask(model, x0, y)
        self.clean_outputs, self.outputs = outputs, outputs.clone()
        valid = (self.clean > 0) if threat.anchored else torch.ones_like(self.clean, dtype=torch.bool)
        self.status = [Status.UNKNOWN if ok else Status.INVALID for ok in valid.tolist()]
        self.margin = self.clean if threat.anchored else torch.full_like(self.clean, torch.inf)
        self.margin = self.margin.clone()
        self.bound = torch.full_like(self.clean, -torch.inf)
        self.loose = (ROUNDING * scale_of(outputs)).tolist()
        self.method: list[str | None] = [None] * len(x0)
        self.grade: list[Grade | None] = [None] * len(x0)
        self.witness = x0.clone()
        """The input of the lowest margin of every row: a witness where the row is refuted."""
        self.point = threat.start(x0).clone()
        """The same as a point of the threat: the move that makes it, where the threat is one of moves."""
        self.found_by = ["the clean input"] * len(x0)
        self.bounded_by = [""] * len(x0)
        self.domains, self.waiting = [0] * len(x0), [0] * len(x0)
        """Parts of each row's threat that the last search has bounded, and those it has still to split."""
        self._as_run: set[int] = set()
        self._radius: dict[int, float] = {}
        """How far the margin of a row as the network is run may lie from the real one, where it was asked."""
        self.disagreements: list[tuple[int, str]] = []
        """Rows whose candidate violates the property in the model but not in the replay, with the method."""

    @property
    def open(self) -> Tensor:
        """Rows without a verdict: bool [N]."""
        return torch.tensor([s is Status.UNKNOWN for s in self.status], dtype=torch.bool, device=self.x0.device)

    def hear(self, evidence: Evidence, method: str) -> None:
        """Weigh one piece of evidence from a method. Raises Contradiction when a question is refuted and proved."""
        match evidence:
            case Candidate():
                self._weigh_candidate(evidence, method)
            case Lower() if self.threat.provable and self.differs is None:
                self._weigh_bound(evidence, method)
            case _:
                pass  # a statistic settles nothing, nor does a bound over less than the threat or of another function

    def verdict(self, row: int) -> Verdict:
        """The present verdict on one question."""
        refuted = self.status[row] is Status.REFUTED
        return Verdict(
            self.status[row],
            float(self.margin[row]),
            float(self.bound[row]),
            self.method[row],
            self.grade[row],
            self.witness[row] if refuted else None,
            self.outputs[row] if refuted else None,
            domains=self.domains[row],
            open=self.waiting[row],
        )

    def executed(self, row: int) -> bool | None:
        """Whether a proof holds for the network as it is run (see `Verdict.executed`); it costs a bound of rounding."""
        if self.status[row] is not Status.PROVED or self.arithmetic is None:
            return None
        return row in self._as_run or self.radius(row) < float(self.bound[row])

    def holds_as_run(self, row: int) -> None:
        """Hear that a checked certificate proves a row for the network as it is run."""
        self._as_run.add(row)

    def radius(self, row: int) -> float:
        """How far the row's margin, as the network is run, may lie from that of real arithmetic over its threat."""
        if row not in self._radius:
            like = [i for i, s in enumerate(self.status) if s is Status.PROVED and i not in self._radius]
            rows = torch.tensor([*({row} - set(like)), *like])
            assert self.arithmetic is not None
            threat, enough = self.threat.pick(rows, self.x0), self.bound[rows].double()
            radii = self.arithmetic.radii(self.x0[rows], self.y[rows], threat, enough)
            self._radius.update(zip(rows.tolist(), radii.tolist(), strict=True))
        return self._radius[row]

    def explained(self, row: int, x: Tensor, margin: float, bound: float) -> bool:
        """Whether the network's arithmetic explains that a bound lies above the margin of a point."""
        arithmetic, y = self.arithmetic, self.y[row]
        return arithmetic is not None and arithmetic.explains(x, y, margin, bound, self.radius(row))

    def weigh(self, evidence: Candidate, method: str, threat: Threat | None = None) -> Weighed:
        """What candidates are worth as points of a threat, the judge's own unless given. No verdict changes."""
        rows, x0, y = evidence.rows, self.x0[evidence.rows], self.y[evidence.rows]
        threat = (threat or self.threat).pick(rows, self.x0)
        given = evidence.x if evidence.x.dtype == x0.dtype else threat.project(x0, evidence.x.to(x0.dtype))
        x = threat.deploy(x0, given)
        point = given if threat.rendered else x
        with torch.no_grad():
            outputs, margin = self._ask(self.model, x, y)
            inside = threat.contains(x0, point)
            suspect = (inside & (margin <= 0)).nonzero().squeeze(1)
            again = self._ask(self.replay, x[suspect], y[suspect])[1] if len(suspect) else margin[suspect]
        violated = torch.zeros_like(inside)
        violated[suspect] = again <= 0
        for i in suspect[again > 0].tolist():
            self.disagreements.append((int(rows[i]), method))
        suspects = inside & (margin <= 0)
        return Weighed(x, point, outputs, margin, suspects, inside & ((margin > 0) | violated), violated)

    def _ask(self, model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs, and the margin: of several draws the one that most of them reach or stay below. Of no input the
        model is not asked."""
        if not len(x):
            return self.clean_outputs[:0], self.clean[:0]
        outputs = model(x)
        drawn = [self.property.margin(outputs, y)]
        drawn += [self.property.margin(model(x), y) for _ in range(self.draws - 1)]
        return outputs, torch.stack(drawn).kthvalue(self.draws // 2 + 1, dim=0).values

    def _weigh_candidate(self, evidence: Candidate, method: str) -> None:
        rows, w = evidence.rows, self.weigh(evidence, method)
        for i in w.usable.nonzero().squeeze(1).tolist():
            if self._keep_point(int(rows[i]), w.x[i], w.outputs[i], float(w.margin[i]), bool(w.violated[i]), method):
                self.point[rows[i]] = w.point[i]

    def _keep_point(self, row: int, x: Tensor, output: Tensor, margin: float, violated: bool, method: str) -> bool:
        """Keep an input of the threat if its margin is the lowest so far, and say whether it is."""
        if self.status[row] is Status.INVALID or margin >= self.margin[row]:
            return False
        bound = float(self.bound[row])
        if (violated and self.status[row] is Status.PROVED) or bound > margin + self.loose[row]:
            if not self.explained(row, x, margin, bound):
                raise Contradiction(row, x, margin, self._threat(row), method, bound, self.bounded_by[row])
            self.bound[row] = min(margin, bound - self.radius(row))
            if violated:
                self.status[row], self.grade[row] = Status.UNKNOWN, None
        self.margin[row], self.witness[row], self.outputs[row], self.found_by[row] = margin, x, output, method
        if violated and self.status[row] is Status.UNKNOWN:
            self.status[row], self.method[row] = Status.REFUTED, method
        return True

    def _weigh_bound(self, evidence: Lower, method: str) -> None:
        for held, told in ((self.domains, evidence.domains), (self.waiting, evidence.open)):
            for row, count in zip(
                evidence.rows.tolist(), [] if told is None else told.tolist(), strict=told is not None
            ):
                held[row] = count
        need = needed(evidence.grade, self.clean_outputs[evidence.rows])
        proved = (evidence.bound > need.to(evidence.bound)).tolist()
        for row, bound, proof in zip(evidence.rows.tolist(), evidence.bound.tolist(), proved, strict=True):
            if self.status[row] is Status.INVALID:
                continue
            margin = float(self.margin[row])
            if (proof and self.status[row] is Status.REFUTED) or bound > margin + self.loose[row]:
                if not self.explained(row, self.witness[row], margin, bound):
                    threat, found_by = self._threat(row), self.found_by[row]
                    raise Contradiction(row, self.witness[row], margin, threat, found_by, bound, method)
                bound, proof = min(margin, bound - self.radius(row)), False
            if bound > self.bound[row]:
                self.bound[row], self.bounded_by[row] = bound, method
            if proof and self.status[row] is Status.UNKNOWN:
                self.status[row], self.method[row], self.grade[row] = Status.PROVED, method, evidence.grade
            held = self.grade[row]
            if proof and held is not None and RANK[evidence.grade] > RANK[held]:
                self.grade[row] = evidence.grade

    def _threat(self, row: int) -> Threat:
        return self.threat.pick(torch.tensor([row]), self.x0)
