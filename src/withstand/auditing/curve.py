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
from withstand.verification.search import Verifier, search


class Reach:
    """Per row of a block: the largest radius proved (nan: none) and the smallest refuted (nan: none)."""

    def __init__(self, block: Block) -> None:
        self.block = block
        setup, judge = block.setup, block.judge
        base = setup.threat.radius
        self.certified = torch.full((len(block.ids),), torch.nan, dtype=torch.float64)
        self.attacked = self.certified.clone()
        distance = setup.threat.distance(block.x0, judge.point).cpu()
        self.right = torch.tensor([status is not Status.INVALID for status in judge.status])
        self.settle_own()
        for row, status in enumerate(judge.status):
            if status is Status.REFUTED:
                near = [r for r in setup.radii if r < base and distance[row] <= setup.threat.at(r).reach]
                self.attacked[row] = min([base, *near])

    def settle_own(self) -> None:
        """Take over what is proved and refuted at the threat's own radius by now."""
        base = self.block.setup.threat.radius
        for row, status in enumerate(self.block.judge.status):
            if status is Status.PROVED and not self.certified[row] >= base:
                self.certified[row] = base
            elif status is Status.REFUTED and not self.attacked[row] <= base:
                self.attacked[row] = base

    def walk(self, attack: Attack | None, verifier: Verifier | None, budget: Budget) -> None:
        """Try larger radii, nearest first, on rows that hold so far, then smaller ones on rows that do not."""
        base = self.block.setup.threat.radius
        larger = sorted(r for r in self.block.setup.radii if r > base)
        smaller = sorted((r for r in self.block.setup.radii if r < base), reverse=True)
        before = base
        for radius in larger:
            self._prove(verifier, self.certified == before, radius, budget)
            self._attack(attack, self.attacked.isnan() & ~(self.certified >= radius), radius, budget)
            before = radius
        for radius in smaller:
            self._attack(attack, (self.attacked > radius) & self.certified.isnan(), radius, budget)
            self._prove(verifier, self.certified.isnan() & ~(self.attacked <= radius), radius, budget)

    def _judge(self, wanted: Tensor, radius: float) -> tuple[Tensor, Judge]:
        block = self.block
        rows = wanted.nonzero().squeeze(1).to(block.x0.device)
        threat = block.setup.threat.at(radius)
        return rows, Judge(block.setup.model, block.replay, block.x0[rows], block.y[rows], threat, block.setup.property)

    def _prove(self, verifier: Verifier | None, wanted: Tensor, radius: float, budget: Budget) -> None:
        wanted = wanted & self.right
        if verifier is None or budget.spent or not bool(wanted.any()):
            return
        rows, judge = self._judge(wanted, radius)
        graph = self.block.setup.model.graph
        assert graph is not None, "models without a graph have no verifiers"
        with self.block.timed("verify", rows), numbered(rows):
            search(judge, graph, [verifier], budget)
        self._keep(self.certified, rows, judge, Status.PROVED, radius)

    def _attack(self, attack: Attack | None, wanted: Tensor, radius: float, budget: Budget) -> None:
        wanted = wanted & self.right
        if attack is None or budget.spent or not bool(wanted.any()):
            return
        rows, judge = self._judge(wanted, radius)
        with self.block.timed("attack", rows), numbered(rows):
            found = self.block.run(attack, rows, judge.threat, budget)
            hit = found.refuted.nonzero().squeeze(1)
            judge.hear(Candidate(hit, found.x[hit]), name_of(attack))
        self._keep(self.attacked, rows, judge, Status.REFUTED, radius)

    @staticmethod
    def _keep(kept: Tensor, rows: Tensor, judge: Judge, status: Status, radius: float) -> None:
        reached = torch.tensor([s is status for s in judge.status], dtype=torch.bool)
        kept[rows.cpu()[reached]] = radius
