"""One question settled by branch and bound over the phases of its neurons."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from withstand.bounds.linear import Relaxation
from withstand.bounds.refine import crown
from withstand.core.evidence import Candidate, Evidence, Lower
from withstand.core.judge import needed
from withstand.core.property import Rows
from withstand.core.shapes import flattened
from withstand.verification.batch import Batch
from withstand.verification.bounding import CHUNK
from withstand.verification.branching import LOOKS, Cut, choose, losses, split
from withstand.verification.dual import Ascent, Dual, Found, bound, start
from withstand.verification.exact import Exact
from withstand.verification.memory import is_out_of_memory
from withstand.verification.pool import Pool
from withstand.verification.problem import Problem
from withstand.verification.recorder import recorder_of
from withstand.verification.reduced import reduce, settle
from withstand.verification.reprove import certify
from withstand.verification.tighten import Slopes, ahead, retighten, tighten_block, tightenable

ROOT = Ascent(steps=20)
"""Steps on the bounds of neurons and rows over the whole region."""

FEWER = 0.8
"""Share of neurons below which those left after others became lines are worth tightening once more. Few smooth ones
become lines, and the others would be as they were; where all are ReLUs, it is always done."""

BEST_FIRST = 20_000
"""Open domains up to which the one of the least bound comes first."""

LARGEST = 512
"""Domains worked on together at most."""

WORK = 30_000_000
"""Multiplications of one pass of a batch, by which its size is chosen: about ten milliseconds of one core, beside which
the calls themselves cost little."""


Step = tuple[float, Callable[[], Iterator[Evidence]]]
"""Multiplications, about, and what does them."""


@dataclass(frozen=True)
class Domains(Batch):
    """P domains: the choices of their bound, the mix of the group's rows [P, R], the group [P] and the bound [P].

    node: in the certificate [P]; zeros where none is made.
    """

    dual: Dual
    mix: Tensor
    group: Tensor
    bound: Tensor
    node: Tensor


class PhaseTree:
    """The search on question `place` of a problem that a relaxation bounds.

    question: its number in the evidence. level: what a bound must exceed. steps: gradient steps on every new domain.
    margin: the property's at x0.
    work: multiplications done so far. count: domains bounded. stop: why a part was given up, if one was.
    """

    def __init__(
        self, problem: Problem, place: int, question: int, relaxation: Relaxation, level: float, steps: int
    ) -> None:
        self.problem, self.place, self.question, self.level = problem, place, question, level
        self.rows = Rows(problem.rows.weight[place], problem.rows.offset[place], problem.rows.group)
        self.how, self.largest = Ascent(steps=steps), LARGEST
        self.network = reduce(relaxation, place, self.rows.weight, self.rows.offset)
        self.recorder = recorder_of(problem, place, self.network)
        self.slopes: list[Slopes] = []
        self.pool: Pool[Domains] | None = None
        self.floor, self.count, self.work, self._latest = torch.inf, 0, 0.0, 0.0
        self.stop: str | None = None
        value = self.rows.weight @ problem.graph(problem.x0[place : place + 1]).flatten() + self.rows.offset
        self.margin = float(self.rows.combine(value[None]))
        self._todo: deque[Step] = deque([(self._rows_cost, self._first)])

    @property
    def bound(self) -> float:
        """The running lower bound of the margin."""
        if not self.count:
            return -torch.inf
        return min(self.floor, torch.inf if self.pool is None else self.pool.least)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self._todo and (self.pool is None or not len(self.pool))

    @property
    def rooted(self) -> bool:
        """Whether the bounds over the whole region are done."""
        return not self._todo

    @property
    def size(self) -> int:
        """Bytes of the open domains."""
        return 0 if self.pool is None else self.pool.size

    @property
    def cost(self) -> float:
        """Multiplications of the next step, about: of a split, those of the latest one."""
        return self._todo[0][0] if self._todo else self._latest

    @property
    def _batch(self) -> int:
        return min(self.largest, max(8, WORK // self.network.work))

    @torch.no_grad()
    def step(self) -> Iterator[Evidence]:
        """One piece of the bounds over the whole region, or a split of the worst domains."""
        if self._todo:
            self.work += self.cost
            yield from self._todo.popleft()[1]()
        else:
            before = self.work
            yield from self._split()
            self._latest = self.work - before
        if self.recorder is not None and self.bound > self.level / 2:
            left = self.pool.held if self.pool else None
            told = (self.recorder, self.network, left, self.level / 2, self.count)
            self.recorder.proof.rest = partial(certify, *told)
        rows = torch.tensor([self.question])
        bound = torch.tensor([self.bound], dtype=torch.float64)
        count, waiting = torch.tensor([self.count]), torch.tensor([0 if self.pool is None else len(self.pool)])
        yield Lower(rows, bound, self.problem.grade, count, waiting)

    # ------------------------------------------------------------ the whole region

    @property
    def _rows_cost(self) -> float:
        return ROOT.work(self.network, 2 * len(self.network.offset))

    def _first(self) -> Iterator[Evidence]:
        yield from self._rows()
        if self.pool is not None and len(self.pool):
            self._todo.extend([*self._tightening(), (0.0, self._settle)])

    def _rows(self) -> Iterator[Evidence]:
        """Bounds of every row; the groups they leave open become the first domains."""
        count = len(self.network.offset)
        first = start(self.network)[torch.zeros(count, dtype=torch.long)]
        found = bound(self.network, first, None, ROOT, self.level)
        self.count += count
        yield from self._offer(found.point)
        member = self.rows.group == torch.arange(int(self.rows.group.max()) + 1)[:, None]
        by_group, best = torch.where(member, found.bound, -torch.inf).max(1)
        proved = by_group > self.level
        if self.recorder is not None:
            self.recorder.rows(self.network, found, best, proved)
        self.floor, self.pool = min([torch.inf, *by_group[proved].tolist()]), None
        group = (~proved).nonzero().squeeze(1)
        if len(group):
            chosen = torch.zeros_like(member, dtype=first.low.dtype)
            chosen[torch.arange(len(best)), best] = 1.0
            spread = member / member.sum(1, keepdim=True)
            mix = ((chosen + spread) / 2)[group]
            found = bound(self.network, found.dual[best[group]], mix, ROOT, self.level)
            assert found.mix is not None
            node = torch.zeros_like(group) if self.recorder is None else self.recorder.root(group)
            self._keep(Domains(found.dual, found.mix, group, found.bound.maximum(by_group[group]), node), found)

    def _tightening(self) -> list[Step]:
        parts = [(number, ahead(self.network, number)) for number in tightenable(self.network)]
        return [(ROOT.work(part, len(part.offset)), partial(self._tighten, number)) for number, part in parts]

    def _tighten(self, number: int) -> Iterator[Evidence]:
        before = self.network
        self.network, slopes = tighten_block(before, number, ROOT)
        self.slopes.append(slopes)
        if self.recorder is not None:
            self.recorder.target(before, self.network, slopes)
        yield from ()

    def _settle(self) -> Iterator[Evidence]:
        """Compose away the neurons that have become lines, if they are many, and bound the rest again."""
        settled = settle(self.network, self.network.low, self.network.high)
        if self.network.relu or len(settled.low) < FEWER * len(self.network.low):
            self.network, self.slopes = settled, []
            self._todo.extend(self._tightening())
        self._todo.append((self._rows_cost, self._again))
        yield from ()

    def _again(self) -> Iterator[Evidence]:
        self.exact = Exact(self.network)
        yield from self._rows()

    # ------------------------------------------------------------ its parts

    def _split(self) -> Iterator[Evidence]:
        """Split the worst domains once; half as many from then on where memory runs out."""
        assert self.pool is not None
        taken = self.pool.take(max(1, self._batch // 2))
        try:
            yield from self._parts(taken)
        except (MemoryError, RuntimeError) as error:
            if len(taken) == 1 or not is_out_of_memory(error):
                raise
            self.pool.put(taken)
            self.largest = len(taken)

    def _parts(self, taken: Domains) -> Iterator[Evidence]:
        found = bound(self.network, taken.dual, taken.mix, Ascent(steps=0))
        self.work += LOOKS * len(taken) * self.network.work
        cut = choose(self.network, found, torch.full_like(found.bound, self.level))
        neuron = cut.neuron
        fixed, bent = (neuron < 0).nonzero().squeeze(1), (neuron >= 0).nonzero().squeeze(1)
        if len(fixed):
            yield from self._leaves(taken[fixed])
        if len(bent):
            yield from self._halve(taken[bent], found[bent], Cut(neuron[bent], cut.point[bent]))

    def _halve(self, taken: Domains, found: Found, cut: Cut) -> Iterator[Evidence]:
        whole = split(self.network, found, cut)
        worth = losses(self.network, found)[1].repeat(2, 1)
        children, work = retighten(self.network, whole, self.slopes, int(cut.neuron.min()), worth)
        self.work += work + self.how.work(self.network, len(children))
        mix, group, floor = taken.mix.repeat(2, 1), taken.group.repeat(2), taken.bound.repeat(2)
        kept = (children.low <= children.high).all(1)
        children, inside = children[kept], mix[kept]
        if len(children):
            found = bound(self.network, children, inside, self.how, self.level)
        node = taken.node.repeat(2)
        if self.recorder is not None:  # not before: where memory has run out, the same domains are split again
            node = self.recorder.split(self.network, taken.node, cut.neuron, cut.point)
            self.recorder.hold(self.network, whole[~kept], mix[~kept], group[~kept], node[~kept])
        mix, group, floor, node = inside, group[kept], floor[kept], node[kept]
        if not len(children):
            return
        self.count += len(children)
        yield from self._offer(found.point)
        value = found.bound.maximum(floor)
        self._keep(Domains(found.dual, mix if found.mix is None else found.mix, group, value, node), found)

    def _leaves(self, taken: Domains) -> Iterator[Evidence]:
        """Domains without bent neurons: their bound is made exact, and is their last."""
        for row in range(len(taken)):
            one = taken[row : row + 1]
            value = float(one.bound)
            if self.exact.fits:
                least, point, proof, mix = self.exact.least(one.dual, self.rows.group == one.group)
                value = max(value, least)
                if self.recorder is not None:
                    self.recorder.hold(self.network, proof, mix, one.group, one.node)
                if point is not None:
                    yield from self._offer(point[None])
            self.floor = min(self.floor, value)
            if value <= self.level:
                self.stop = (
                    "a part where no neuron is left to split, or none that is wide enough, keeps too low a bound"
                )

    def _keep(self, domains: Domains, found: Found) -> None:
        closed = domains.bound > self.level
        if bool(closed.any()):
            self.floor = min(self.floor, float(domains.bound[closed].min()))
            if self.recorder is not None:
                self.recorder.claim(
                    self.network, found[closed], domains.mix[closed], domains.group[closed], domains.node[closed]
                )
        if self.pool is None:
            self.pool = Pool(domains[~closed], BEST_FIRST)
        else:
            self.pool.put(domains[~closed])

    def _offer(self, points: Tensor) -> Iterator[Evidence]:
        """Points [K, n] where they violate the question, as the true network says."""
        problem = self.problem
        at = torch.full((len(points),), self.place)
        x0 = problem.x0[at]
        x = problem.threat.pick(at, problem.x0).project(x0, points.reshape(x0.shape))
        value = flattened(problem.graph(x)) @ self.rows.weight.T + self.rows.offset
        margin = Rows(self.rows.weight, self.rows.offset, self.rows.group).combine(value)
        bad = (margin <= 0).nonzero().squeeze(1)
        if len(bad):
            yield Candidate(torch.full((len(bad),), self.question), x[bad])


def plant(problem: Problem, steps: int = 20) -> Generator[Evidence, None, list[PhaseTree]]:
    """The searches on the questions still open after bounds of the rows over whole regions.

    steps: gradient steps on every new domain.
    """
    trees = []
    for chunk in torch.arange(len(problem)).split(CHUNK):
        rows = chunk[problem.open[chunk]]
        if not len(rows):
            continue
        part = problem.pick(rows)
        with torch.no_grad():
            relaxation = crown(part.graph, part.threat, part.x0)
            level = 2 * needed(problem.grade, part.graph(part.x0))
        for place, question in enumerate(rows.tolist()):
            with torch.no_grad():
                tree = PhaseTree(part, place, question, relaxation, float(level[place]), steps)
            yield from tree.step()
            if problem.open[question]:
                trees.append(tree)
    return trees
