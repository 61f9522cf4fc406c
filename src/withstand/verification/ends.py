"""Both ends of the radii at which properties hold: the largest proved and the smallest refuted, by the judge's word.

A proof at a radius proves all smaller ones, and a witness refutes all radii from its distance on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch
from torch import Tensor

from withstand.core.arithmetic import Arithmetic
from withstand.core.evidence import Candidate, Grade, Lower
from withstand.core.judge import Contradiction, Judge, Status
from withstand.core.property import Property
from withstand.core.threat import Threat


@contextmanager
def numbered(rows: Tensor) -> Iterator[None]:
    """Contradictions about a row of a part name its row of the whole: rows [K] are the part's."""
    try:
        yield
    except Contradiction as clash:
        clash.row = int(rows[clash.row])
        raise


BESIDE = 1 - 1e-5
"""Share of a witness's distance up to which a proof stands that rounding alone contradicts there."""


class End(StrEnum):
    """What is known of one sample's radii."""

    MET = "met"
    """The ends are closer than the tolerance, or no radius lies between them."""

    PROVED = "proved"
    """The property holds at the largest radius asked about."""

    OPEN = "open"
    INVALID = "invalid"


class Ends:
    """Samples x0 [N, *shape] with targets y [N], and radii up to that of the threat.

    proved [N], float64: largest radius proved (0: none; at x0 itself the property holds). refuted [N]: distance of the
    nearest witness, inf where there is none within the largest radius. Both are NaN where x0 is wrong. tolerance: the
    gap, as a share of the refuted radius (or the largest), that is small enough. arithmetic: as the judge wants it.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        replay: Callable[[Tensor], Tensor] | None,
        x0: Tensor,
        y: Tensor,
        threat: Threat,
        property: Property,
        tolerance: float,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.model, self.replay, self.x0, self.y, self.arithmetic = model, replay, x0, y, arithmetic
        self.threat, self.property, self.tolerance = threat, property, tolerance
        self.largest = threat.radius
        count = len(x0)
        clean = self.judge(torch.arange(count), torch.zeros(count, dtype=torch.float64))
        self.valid = torch.tensor([status is not Status.INVALID for status in clean.status])
        self.margin = clean.margin.double().cpu()
        nan = torch.full((count,), torch.nan, dtype=torch.float64)
        self.proved = torch.where(self.valid, 0.0, nan)
        self.refuted = torch.where(self.valid, torch.inf, nan)
        self.bound = torch.full((count,), -torch.inf, dtype=torch.float64)
        """The bound on the margin at the radius proved."""
        self.attacked = torch.zeros(count, dtype=torch.bool)
        """Samples at which an attack has looked."""
        self.witness = x0.clone()
        self.proved_by: list[str | None] = [None] * count
        self.refuted_by: list[str | None] = [None] * count
        self.grade: list[Grade | None] = [None] * count

    def __len__(self) -> int:
        return len(self.x0)

    @property
    def upper(self) -> Tensor:
        """The refuted radius, or the largest one asked about where none is refuted: [N]."""
        return self.refuted.clamp(max=self.largest)

    @property
    def open(self) -> Tensor:
        """Samples between whose ends there is something to find: bool [N]."""
        gap = self.upper - self.proved
        wide = gap > self.tolerance * self.upper
        wide |= (gap > 0) & self.refuted.isinf()
        between = self.threat.rounded(self.proved + gap / 2) > self.proved
        return self.valid & wide & (between | self.refuted.isinf())

    @property
    def status(self) -> list[End]:
        """What is known of each sample."""
        whole, open_ = (self.proved >= self.largest).tolist(), self.open.tolist()
        words = zip(self.valid.tolist(), whole, open_, strict=True)
        return [
            End.INVALID if not valid else End.PROVED if all_of_it else End.OPEN if wide else End.MET
            for valid, all_of_it, wide in words
        ]

    def judge(self, rows: Tensor, radii: Tensor) -> Judge:
        """A judge of samples `rows` [K] at a radius [K] of their own."""
        rows = rows.to(self.x0.device)
        threat = self.threat.at(radii)
        return Judge(
            self.model, self.replay, self.x0[rows], self.y[rows], threat, self.property, arithmetic=self.arithmetic
        )

    def learn(self, rows: Tensor, radii: Tensor, judge: Judge) -> None:
        """Take over the verdicts of a judge of samples `rows` [K] at `radii` [K]."""
        for place, (row, radius) in enumerate(zip(rows.tolist(), radii.tolist(), strict=True)):
            if judge.status[place] is Status.PROVED and radius > self.proved[row]:
                self._raise(row, radius, judge, place)
            elif judge.status[place] is Status.REFUTED:
                self._lower(row, judge, place)

    def learn_within(self, rows: Tensor, radii: Tensor, bound: Tensor, grade: Grade, method: str) -> None:
        """Hear bounds [K] on the margins of samples `rows` over balls of `radii` [K]."""
        radii = self.threat.rounded(radii)
        news = radii > self.proved[rows]
        if bool(news.any()):
            rows, radii = rows[news], radii[news]
            judge = self.judge(rows, radii)
            judge.hear(
                Lower(torch.arange(len(rows), device=self.x0.device), bound[news].to(self.x0.device), grade), method
            )
            self.learn(rows, radii, judge)

    def learn_points(self, rows: Tensor, x: Tensor, method: str) -> None:
        """Hear points x [K, *shape] that may violate the properties of samples `rows` [K]."""
        if not len(rows):
            return
        distance = self.threat.distance(self.x0[rows.to(self.x0.device)], x).cpu()
        near = (distance <= self.largest) & (distance < self.refuted[rows])
        if bool(near.any()):
            rows, radii, x = rows[near], distance[near], x[near.to(x.device)]
            judge = self.judge(rows, radii)
            with numbered(rows):
                judge.hear(Candidate(torch.arange(len(rows), device=x.device), x), method)
            self.learn(rows, radii, judge)

    def _raise(self, row: int, radius: float, judge: Judge, place: int) -> None:
        bound, proved_by, grade = float(judge.bound[place]), judge.method[place], judge.grade[place]
        if self.refuted[row] <= self.threat.at(radius).reach:
            with numbered(torch.full((place + 1,), row)):
                judge.hear(Candidate(torch.tensor([place]), self.witness[row][None]), str(self.refuted_by[row]))
            if judge.status[place] is Status.REFUTED:  # by the network's own arithmetic
                radius = min(radius, BESIDE * float(self.refuted[row]))
        self.proved[row], self.bound[row] = radius, bound
        self.proved_by[row], self.grade[row] = proved_by, grade

    def _lower(self, row: int, judge: Judge, place: int) -> None:
        x0, point = self.x0[row][None], judge.point[place][None]
        distance = float(self.threat.distance(x0, point))
        if distance >= self.refuted[row]:
            return
        if self.proved[row] > 0 and distance <= self.threat.at(float(self.proved[row])).reach:
            threat, margin = self.threat.at(float(self.proved[row])), float(judge.margin[place])
            bound, proved_by = float(self.bound[row]), str(self.proved_by[row])
            if not judge.explained(place, judge.witness[place], margin, bound):
                raise Contradiction(row, point[0], margin, threat, judge.found_by[place], bound, proved_by)
            self.proved[row] = BESIDE * distance
        self.refuted[row], self.witness[row], self.refuted_by[row] = distance, point[0], judge.method[place]
