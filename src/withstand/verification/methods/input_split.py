"""Branch and bound over boxes of inputs, for networks of few inputs."""

from collections.abc import Generator
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from withstand.attacks.pgd import PGD
from withstand.core.box import Box
from withstand.core.evidence import Candidate, Evidence, Lower
from withstand.core.judge import needed
from withstand.core.property import Rows
from withstand.core.registry import Count, verifier
from withstand.core.runner import run
from withstand.core.shapes import flattened
from withstand.verification.box_proofs import BoxProofs
from withstand.verification.boxbounds import Bounder, BoxBounds, GraphBounder
from withstand.verification.chain import chain_of
from withstand.verification.clip import shrink
from withstand.verification.pool import Boxes, Pool, least_by_question
from withstand.verification.problem import Problem

MAX_PAIRED = 4
"""Groups of up to so many rows also get the mean of every two rows: a positive mean proves one of them positive."""

STARTS = 64
"""Points from which the first falsification walks; each later one has twice as many, up to MAX_STARTS."""

MAX_STARTS = 2048

WORTH = 0.8
"""A certificate holds the cuts that leave less of a box than this share; others are not made where it is wanted."""


@verifier
class InputSplit:
    """Split the input box in two until linear bounds settle every part. Reference: Wang et al. 2018, arXiv:1804.10829.

    Boxes of the least bound come first and are cut by their own bounds (a violation lies where the bounds are low),
    then halved in the input whose width loosens the bound most through the unstable neurons. The middle of each box,
    the corner where its bound is least, and PGD from the worst boxes look for violations meanwhile. Complete for ReLU
    networks on boxes up to rounding; sound for any network that can be bounded, but only practical up to about 20
    inputs. l1 and l2 threats are bounded over the box around them.

    max_boxes: open boxes at most, the memory limit; 1,000,000 of 5 inputs are about 100 MB. best_first: open boxes up
    to which the least bound comes first; beyond, the latest, which keeps them few. entries: numbers in the largest
    tensor of a batch; 2,000,000 is about the cache of one core.
    """

    searches: ClassVar[bool] = True

    max_boxes: Count = 1_000_000
    best_first: Count = 20_000
    entries: Count = 2_000_000

    def prove(self, problem: Problem) -> Generator[Evidence, None, str | None]:
        """Candidates, and the running bound of every open question after each batch of boxes."""
        tree = _Tree(problem)
        pool = Pool(tree.roots(), self.best_first)
        batches = 0
        yield from tree.falsify(pool)
        while len(pool):
            pool.keep(lambda boxes: problem.open[boxes.question])
            boxes = pool.take(min(tree.bounder.fitting(self.entries), 4096, 64 << batches))
            if not len(boxes):
                break
            children = yield from tree.work(boxes)
            pool.put(children)
            yield tree.evidence(pool)
            batches += 1
            if batches & (batches - 1) == 0 and batches >= 4:
                yield from tree.falsify(pool)
            if len(pool) > self.max_boxes:
                return f"{len(pool)} open boxes passed the memory limit max_boxes={self.max_boxes}"
        return "boxes too small to split are left" if tree.stuck else None


class _Tree:
    """What all boxes share, and the least bound of the boxes done with."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.bounder: Bounder = chain_of(problem.graph, problem.x0.dtype) or GraphBounder(problem.graph)
        self.rows, mix = with_means(problem.rows)
        count = int(self.rows.group.max()) + 1
        self.member = self.rows.group[:, None] == torch.arange(count)
        low, high = problem.threat.box(problem.x0)
        self.low, self.high = flattened(low).clone(), flattened(high).clone()  # an edge may be one for all
        with torch.no_grad():
            self.level = 2 * needed(problem.grade, problem.graph(problem.x0))
        self.floor = torch.full_like(self.level, torch.inf)
        self.bounded = torch.zeros(len(problem), dtype=torch.long)
        self.stuck, self.rounds = False, 0
        self.proofs = None if problem.proofs is None else BoxProofs(problem, self.rows, mix)

    def roots(self) -> Boxes:
        questions = len(self.problem)
        groups = torch.ones(questions, self.member.shape[1], dtype=torch.bool)
        bound = torch.full((questions,), -torch.inf, dtype=self.low.dtype)
        nodes = None if self.proofs is None else self.proofs.roots()
        return Boxes(torch.arange(questions), self.low, self.high, bound, groups, nodes)

    def evidence(self, pool: Pool[Boxes]) -> Lower:
        """The running bounds of the questions still open."""
        rows = self.problem.open.nonzero().squeeze(1)
        bound = torch.minimum(self.floor, least_by_question(pool.held, len(self.problem)))
        waiting = torch.bincount(pool.held.question, minlength=len(bound))
        return Lower(rows, bound[rows], self.problem.grade, self.bounded[rows], waiting[rows])

    @torch.no_grad()
    def work(self, boxes: Boxes) -> Generator[Evidence, None, Boxes]:
        """Bound boxes, offer their likely violations, and return the halves of what is left of them."""
        index, level = boxes.question, self.level[boxes.question]
        self.bounded += torch.bincount(index, minlength=len(self.bounded))
        rows = Rows(self.rows.weight[index], self.rows.offset[index], self.rows.group)
        bounds = self.bounder.bound(boxes.low, boxes.high, rows)
        value = bounds.bound.nan_to_num(nan=-torch.inf)
        by_group, chosen = torch.where(self.member, value[:, :, None], -torch.inf).max(1)
        by_group = by_group.maximum(boxes.bound[:, None])
        done = boxes.groups & (by_group > level[:, None])
        self._close(index, torch.where(done, by_group, torch.inf).amin(1))
        if self.proofs is not None and boxes.node is not None:
            self.proofs.claim(index, boxes.node, done, chosen, bounds.parallel)
        groups = boxes.groups & ~done
        bound, worst = torch.where(groups, by_group, torch.inf).min(1)
        live = groups.any(1).nonzero().squeeze(1)
        best = chosen.gather(1, worst[:, None]).squeeze(1)[live]
        boxes = Boxes(index, boxes.low, boxes.high, bound, groups, boxes.node)[live]
        slope = bounds.slope[live, best]
        corner = torch.where(slope > 0, boxes.low, boxes.high)
        points = torch.cat([corner, (boxes.low + boxes.high) / 2])
        yield from self._offer(boxes.question.repeat(2), points)
        effect = bounds.effect(live, best)
        cut, kept = self._cut(boxes, bounds, live)
        shrunk = (cut.high - cut.low) / (boxes.high - boxes.low)[kept].clamp(min=1e-30)
        return self._halve(cut, effect[kept] * shrunk)

    def _close(self, question: Tensor, bound: Tensor) -> None:
        """Remember bounds of parts that are done with."""
        self.floor.scatter_reduce_(0, question, bound, "amin")

    def _offer(self, question: Tensor, points: Tensor) -> Generator[Evidence, None, None]:
        """Points [K, n], put into their threats, where they violate their question."""
        if not len(points):
            return
        problem, rows = self.problem, self.problem.rows
        start = problem.x0[question]
        x = problem.threat.pick(question, problem.x0).project(start, points.reshape(-1, *problem.graph.input_shape))
        value = Rows(rows.weight[question], rows.offset[question], rows.group).value(self.bounder(flattened(x)))
        bad = (rows.combine(value) <= 0).nonzero().squeeze(1)
        if len(bad):
            yield Candidate(question[bad], x[bad])

    def _cut(self, boxes: Boxes, bounds: BoxBounds, live: Tensor) -> tuple[Boxes, Tensor]:
        """The hull, over the open groups, of where all of a group's lines are low; and which boxes have any left."""
        low, high = torch.full_like(boxes.low, torch.inf), torch.full_like(boxes.low, -torch.inf)
        groups, level = boxes.groups.clone(), self.level[boxes.question]
        edge, slope = bounds.edge[live], bounds.slope[live]
        lines = self.member.repeat(edge.shape[1] // len(self.member), 1)
        for number in range(groups.shape[1]):
            has = groups[:, number].nonzero().squeeze(1)
            if not len(has):
                continue
            pick = (has[:, None], lines[:, number].nonzero().squeeze(1))
            below, above = shrink(boxes.low[has], boxes.high[has], edge[pick], slope[pick], level[has])
            some = (below <= above).all(1)
            groups[has, number] = some
            low[has[some]] = torch.minimum(low[has[some]], below[some])
            high[has[some]] = torch.maximum(high[has[some]], above[some])
        kept = groups.any(1).nonzero().squeeze(1)
        smaller = (boxes.groups != groups).any(1) | (low > boxes.low).any(1) | (high < boxes.high).any(1)
        node = boxes.node
        if self.proofs is not None and node is not None:
            width = boxes.high - boxes.low
            share = torch.where(width > 0, (high - low) / width.clamp(min=1e-30), 1.0).prod(1)
            smaller &= (boxes.groups != groups).any(1) | (share < WORTH)
            low, high = torch.where(smaller, low.T, boxes.low.T).T, torch.where(smaller, high.T, boxes.high.T).T
            node = node.clone()
            cut = (boxes.question[smaller], node[smaller], boxes.groups[smaller], bounds.parallel[live][smaller])
            node[smaller] = self.proofs.cut(*cut)
        self._close(boxes.question[smaller], level[smaller])
        return Boxes(boxes.question, low, high, boxes.bound, groups, node)[kept], kept

    def _halve(self, boxes: Boxes, effect: Tensor) -> Boxes:
        """Both halves of each box, in its input of most effect; boxes of neighbouring numbers are given up."""
        middle = (boxes.low + boxes.high) / 2
        splits = (boxes.low < middle) & (middle < boxes.high)
        stuck = ~splits.any(1)
        if bool(stuck.any()):
            self.stuck = True
            self._close(boxes.question[stuck], boxes.bound[stuck])
            boxes, effect, middle, splits = boxes[~stuck], effect[~stuck], middle[~stuck], splits[~stuck]
        axis = torch.where(splits, effect.nan_to_num(0.0), -1.0).argmax(1, keepdim=True)
        middle = middle.gather(1, axis)
        nodes: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.proofs is not None and boxes.node is not None:
            nodes = self.proofs.split(boxes.question, boxes.node, axis.squeeze(1), middle.squeeze(1))
        left = replace(boxes, high=boxes.high.scatter(1, axis, middle), node=nodes[0])
        right = replace(boxes, low=boxes.low.scatter(1, axis, middle), node=nodes[1])
        return Boxes.join([left, right])

    def falsify(self, pool: Pool[Boxes]) -> Generator[Evidence, None, None]:
        """PGD over each open question's whole box: from random points, and from the middles of its worst boxes."""
        problem, shape = self.problem, self.problem.graph.input_shape
        count = min(STARTS << self.rounds, MAX_STARTS)
        self.rounds += 1
        for question in problem.open.nonzero().squeeze(1).tolist():
            threat = Box(lower=self.low[question].reshape(shape), upper=self.high[question].reshape(shape))
            own = pool.held[(pool.held.question == question).nonzero().squeeze(1)]
            worst = own[own.bound.topk(min(STARTS, len(own)), largest=False).indices]
            middles = (worst.low + worst.high) / 2
            anywhere = self.low[question].expand(count, -1)
            for method, start in ((PGD(start=False, step=0.02), middles), (PGD(), anywhere)):
                x0 = start.reshape(-1, *shape)
                y = problem.y[question : question + 1].expand(len(x0), *problem.y.shape[1:])
                found = run(method, problem.graph, x0, y, threat, problem.property, seed=self.rounds, batch=MAX_STARTS)
                yield from self._offer(torch.full((len(x0),), question), flattened(found.x))
                if not problem.open[question]:
                    break


def with_means(rows: Rows) -> tuple[Rows, Tensor]:
    """The rows, and for every group of several the mean of all and (if they are few) of every two of its rows; and the
    share of each of the rows given in each of these, [M, R]."""
    sets = [torch.tensor([row]) for row in range(len(rows.group))]
    for number in rows.group.unique().tolist():
        members = (rows.group == number).nonzero().squeeze(1)
        if len(members) > 2:
            sets.append(members)
        if 1 < len(members) <= MAX_PAIRED:
            sets += list(torch.combinations(members))
    mix = rows.weight.new_zeros(len(sets), len(rows.group))
    for place, members in enumerate(sets):
        mix[place, members] = 1 / len(members)
    first = torch.stack([members[0] for members in sets])
    return Rows(mix @ rows.weight, rows.offset @ mix.T, rows.group[first]), mix
