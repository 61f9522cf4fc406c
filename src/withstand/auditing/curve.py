"""How far each sample holds: the radii, on a grid around the threat's own, at which it is proved and refuted.

A proof at r proves all smaller radii and a witness at r refutes all larger, so each sample walks only from what is
known at the threat's own radius outwards.
"""

import torch
from torch import Tensor

from withstand.auditing.block import Block
from withstand.core.budget import Budget
from withstand.core.evidence import Candidate
from withstand.core.judge import Judge, Status
from withstand.core.registry import name_of
from withstand.core.runner import Attack
from withstand.verification.ends import numbered
from withstand.verification.search import TIME_OVER, Verifier, search

CURVE = "curve"
"""The name of the stage that looks at other radii."""


class Reach:
    """Per row of a block: the largest radius proved (nan: none), the smallest refuted (nan: none), and the radii at
    which an attack looked, in this attempt and earlier ones."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.certified = _known([one and one.certified_radius for one in block.earlier])
        self.attacked = _known([one and one.attacked_radius for one in block.earlier])
        self.tried: list[set[float]] = [set() if one is None else set(one.tried or ()) for one in block.earlier]
        self.right = torch.tensor([status is not Status.INVALID for status in block.judge.status])

    def settle_own(self) -> None:
        """Take over what is proved, refuted and attacked at the threat's own radius by now."""
        block, threat = self.block, self.block.setup.threat
        distance = threat.distance(block.x0, block.judge.point).cpu()
        for row, status in enumerate(block.judge.status):
            if block.attacked[row]:
                self.tried[row].add(threat.radius)
            if status is Status.PROVED and not self.certified[row] >= threat.radius:
                self.certified[row] = threat.radius
            elif status is Status.REFUTED and not self.attacked[row] <= threat.radius:
                radii = [r for r in block.setup.radii if r < threat.radius and distance[row] <= threat.at(r).reach]
                self.attacked[row] = min([threat.radius, *radii])

    def walk(self, attack: Attack | None, verifier: Verifier | None, among: Tensor, budget: Budget) -> Tensor:
        """Try larger radii, nearest first, on rows that hold so far, then smaller ones on rows that do not, all of them
        among some rows. Returns those on which the time was over before the end."""
        self.settle_own()
        base = self.block.setup.threat.radius
        wanted = torch.zeros_like(self.right)
        wanted[among.cpu()] = True
        wanted &= self.right
        late = torch.zeros_like(self.right)
        before = base
        for radius in sorted(r for r in self.block.setup.radii if r > base):
            late |= self._prove(verifier, wanted & (self.certified >= before), radius, budget)
            late |= self._attack(attack, wanted & self.attacked.isnan(), radius, budget)
            before = radius
        for radius in sorted((r for r in self.block.setup.radii if r < base), reverse=True):
            late |= self._attack(attack, wanted & (self.attacked > radius) & self.certified.isnan(), radius, budget)
            late |= self._prove(verifier, wanted & self.certified.isnan(), radius, budget)
        return late.nonzero().squeeze(1)

    def _judge(self, wanted: Tensor, radius: float) -> tuple[Tensor, Judge]:
        block = self.block
        rows = wanted.nonzero().squeeze(1).to(block.x0.device)
        threat = block.setup.threat.at(radius)
        setup, x0, y = block.setup, block.x0[rows], block.y[rows]
        return rows, Judge(setup.model, block.replay, x0, y, threat, setup.property, arithmetic=setup.arithmetic)

    def _prove(self, verifier: Verifier | None, wanted: Tensor, radius: float, budget: Budget) -> Tensor:
        """Look for proofs at a radius in rows [B] that are wanted; of these, the ones left because of the time."""
        wanted = wanted & ~(self.certified >= radius) & ~(self.attacked <= radius)
        if verifier is None or not bool(wanted.any()):
            return torch.zeros_like(wanted)
        if budget.spent:
            return wanted
        rows, judge = self._judge(wanted, radius)
        graph = self.block.setup.model.graph
        assert graph is not None, "models without a graph have no verifiers"
        with self.block.timed("verify", rows), numbered(rows):
            verdicts = search(judge, graph, [verifier], budget)
        self._keep(self.certified, rows, judge, Status.PROVED, radius)
        late = torch.zeros_like(wanted)
        late[rows.cpu()] = torch.tensor([verdict.reason == TIME_OVER for verdict in verdicts])
        return late

    def _attack(self, attack: Attack | None, wanted: Tensor, radius: float, budget: Budget) -> Tensor:
        """Look for witnesses at a radius in rows [B] that are wanted; of these, the ones left because of the time."""
        wanted = wanted & ~(self.certified >= radius)
        if attack is None or not bool(wanted.any()):
            return torch.zeros_like(wanted)
        if budget.spent:
            return wanted
        rows, judge = self._judge(wanted, radius)
        with self.block.timed("attack", rows), numbered(rows):
            found = self.block.run(attack, rows, judge.threat, budget)
            hit = found.refuted.nonzero().squeeze(1)
            judge.hear(Candidate(hit, found.x[hit]), name_of(attack))
        for row, asked in zip(rows.tolist(), found.looked().tolist(), strict=True):
            if asked:
                self.tried[row].add(radius)
        self._keep(self.attacked, rows, judge, Status.REFUTED, radius)
        late = torch.zeros_like(wanted)
        late[rows.cpu()] = (~found.refuted).cpu() & (found.stopped == "time")
        return late

    @staticmethod
    def _keep(kept: Tensor, rows: Tensor, judge: Judge, status: Status, radius: float) -> None:
        reached = torch.tensor([s is status for s in judge.status], dtype=torch.bool)
        kept[rows.cpu()[reached]] = radius


def _known(radii: list[float | None]) -> Tensor:
    return torch.tensor([torch.nan if radius is None else radius for radius in radii], dtype=torch.float64)
