"""Claims that fall short in the checker's arithmetic are proved once more, in float64 and from bounds the checker has.

A search computes in float32, tightens its neurons' bounds on every domain, and its slopes are rounded to bytes when
they are stored. The checker has the bounds over the whole region, cut by the splits, and those at anchors. Here branch
and bound goes on below the nodes whose claims fail, with exactly these, and makes anchors where splits would not do.
"""

from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from withstand.checker.check import walk
from withstand.checker.visit import Visit
from withstand.core.budget import check_time
from withstand.verification.batch import Batch
from withstand.verification.branching import Cut, choose, split
from withstand.verification.dual import Ascent, Dual, Found, bound, start
from withstand.verification.exact import Exact
from withstand.verification.recorder import Recorder
from withstand.verification.reduced import Reduced, Region, settle
from withstand.verification.tighten import retighten

Array = np.ndarray

ROUNDS = 4
"""How often claims are made and checked."""

MORE, LEAST = 4, 1000
"""Domains bounded anew at most: so many times the search's, and so many more."""

TOGETHER = 256
"""Domains worked on at once."""

FEW = 2.0
"""Splits that may be left to do by the gain of those done so far, where no anchor is made."""


@dataclass(frozen=True)
class Open(Batch):
    """Domains to be proved: choices, mix of rows [P, R], group [P], node [P], and the bound [P] that was had so many
    splits [P] above."""

    dual: Dual
    mix: Tensor
    group: Tensor
    node: Tensor
    above: Tensor
    splits: Tensor


class Left(Protocol):
    """Domains of a search."""

    @property
    def dual(self) -> Dual: ...
    @property
    def mix(self) -> Tensor: ...
    @property
    def group(self) -> Tensor: ...
    @property
    def node(self) -> Tensor: ...


@torch.no_grad()
def certify(recorder: Recorder, network: Reduced, left: "Left | None", margin: float, count: int) -> bool:
    """Make the certificate of a question that a search has settled hold: gives whether it does.

    network, left: the search's, and the domains it left open because their bounds suffice. margin: what bounds have to
    exceed. count: domains that the search bounded; new proofs may take `MORE` times as many.
    """
    if left is not None:
        recorder.hold(network, left.dual, left.mix, left.group, left.node)
    recorder.aim()
    return Reprover(recorder, margin, MORE * count + LEAST).run()


class Reprover:
    """Mends the claims of one certificate.

    margin: what bounds of new claims must exceed. most: domains bounded at most.
    """

    def __init__(self, recorder: Recorder, margin: float, most: int, steps: int = 10) -> None:
        self.recorder, self.margin, self.most = recorder, margin, most
        self.how, self.count = Ascent(steps=steps), 0
        self.visit: Visit | None = None
        self._anchors = set(recorder.roots.tolist())

    def run(self) -> bool:
        """Check all claims, and prove what fails anew. Gives whether all claims hold in the end."""
        builder, level = self.recorder.builder, self.margin
        failing = self._failing(builder.kept)
        if len(failing):
            self._prepare()
        for _ in range(ROUNDS):
            if not len(failing):
                return True
            domains = self._domains(failing)
            builder.drop(failing)
            before = len(builder.kept)
            if not self._prove(domains, level):
                return False
            failing, level = self._failing(builder.kept[before:]), 4 * level
        return not len(failing)

    def _failing(self, claim: Array) -> Array:
        """Which of some claims do not hold."""
        builder, proof = self.recorder.builder, self.recorder.proof
        place = np.searchsorted(builder.kept, claim)
        self.visit = walk(builder.certificate(), proof.network, place, pulse=check_time, known=self.visit)
        return claim[~(self.visit.bound[place] > proof.rows.threshold)]

    def _prepare(self) -> None:
        """The network in float64 under the checker's bounds over the whole region, and the slopes of anchors."""
        assert self.visit is not None
        whole = _doubled(self.recorder.whole)
        neurons = self.recorder.of(whole)
        low, high = (torch.from_numpy(edge[0, neurons]) for edge in (self.visit.whole.below, self.visit.whole.above))
        self.network = settle(whole, low, high)
        self.neurons = self.recorder.of(self.network)
        self.slopes = self.recorder.aims(self.network)
        self.exact = Exact(self.network)
        self._where = np.full(self.recorder.proof.network.neurons, -1)
        self._where[self.neurons] = np.arange(len(self.neurons))

    def _domains(self, claim: Array) -> Open:
        """The domains of claims, with the choices that were stored and the checker's bounds over the whole region."""
        assert self.visit is not None
        recorder, held = self.recorder, self.recorder.builder.certificate().claims
        place = np.searchsorted(recorder.builder.kept, claim)
        node = held.node[place].astype(np.int64)
        dual = start(self.network)[torch.zeros(len(claim), dtype=torch.long)]
        price, mix = recorder.stored(self.neurons, place)
        slopes = self.visit.claiming.slopes(held.slopes[place])[:, self.neurons]
        lower = recorder.slopes(self.neurons, slopes, dual.lower)
        upper = torch.where(recorder.kinked(self.neurons), dual.upper, lower)
        dual = self._cut(replace(dual, lower=lower, upper=upper, phase=price.sign(), price=price.abs()), node)
        root = replace(dual, low=self.network.low.expand_as(lower), high=self.network.high.expand_as(lower))
        root = replace(root, phase=torch.zeros_like(lower), price=torch.zeros_like(lower))
        above = bound(self.network, root, mix, Ascent(steps=0)).bound
        depth = torch.from_numpy(recorder.paths.depth[node])
        group = torch.from_numpy(held.group[place].astype(np.int64))
        return Open(dual, mix, group, torch.from_numpy(node), above, depth)

    def _cut(self, dual: Dual, node: Array) -> Dual:
        """Domains cut by all splits on the way to their nodes."""
        paths = self.recorder.paths
        row, below = paths.up(node)
        place, side, point = self._where[paths.neuron[below]], paths.side[below], paths.point[below]
        low, high, phase = (t.clone().numpy() for t in (dual.low, dual.high, dual.phase))
        up, down = (place >= 0) & (side == 1), (place >= 0) & (side == 0)
        np.maximum.at(low, (row[up], place[up]), point[up])
        np.minimum.at(high, (row[down], place[down]), point[down])
        above, under = np.zeros(low.shape, bool), np.zeros(low.shape, bool)
        above[row[up], place[up]], under[row[down], place[down]] = True, True
        sign = np.where(phase == 0, np.where(above, 1.0, -1.0), np.sign(phase))
        low, high, phase = (torch.from_numpy(t) for t in (low, high, sign * (above + 1.0 * under)))
        return replace(dual, low=low, high=torch.maximum(low, high), phase=phase)

    def _prove(self, domains: Open, level: float) -> bool:
        """Claims that cover the domains; false where the work gets too much or nothing is left to split."""
        left, found = self._bounded(domains, level)
        far = self._is_far(left, found, level)
        stack = [left[~far], *self._descend(left[far], level)]
        while stack:
            taken = stack.pop()
            if len(taken) > TOGETHER:
                stack.append(taken[TOGETHER:])
                taken = taken[:TOGETHER]
            self.count += len(taken)
            if self.count > self.most:
                return False
            left, found = self._bounded(taken, level)
            far = self._is_far(left, found, level)
            if bool(far.any()):
                more, again = self._bounded(self._anchored(left[far]), level)
                left, found = Open.join([left[~far], more]), Found.join([found[~far], again])
            if not len(left):
                continue
            neuron, point = choose(self.network, found, torch.full_like(found.bound, level))
            ends, bent = (neuron < 0).nonzero().squeeze(1), (neuron >= 0).nonzero().squeeze(1)
            if len(ends) and not self._leaves(left[ends], level):
                return False
            if len(bent):
                stack.append(self._halved(left[bent], found[bent], Cut(neuron[bent], point[bent])))
        return True

    def _bounded(self, domains: Open, level: float) -> tuple[Open, Found]:
        """Claims of the domains whose bounds suffice; the others with the choices found, and their bounds."""
        found = bound(self.network, domains.dual, domains.mix, self.how, level)
        found = replace(found, mix=domains.mix if found.mix is None else found.mix)
        assert found.mix is not None
        left = ~self._claimed(domains, found, level)
        return replace(domains, dual=found.dual, mix=found.mix)[left], found[left]

    def _claimed(self, domains: Open, found: Found, level: float) -> Tensor:
        """Claim the domains whose bounds suffice with choices as certificates store them: slopes in bytes, the rest in
        float32. Tells which [P]; empty ones are claimed with any choices."""
        mix = domains.mix if found.mix is None else found.mix
        stored = bound(self.network, self.recorder.as_stored(self.network, found), mix, Ascent(steps=0))
        good = (stored.bound > level) | (domains.dual.low > domains.dual.high).any(1)
        self.recorder.claim(self.network, stored[good], mix[good], domains.group[good], domains.node[good])
        return good

    def _is_far(self, domains: Open, found: Found, level: float) -> Tensor:
        """Which domains want more splits than `FEW`, by what those done so far gained."""
        gain = (found.bound - domains.above) / domains.splits.clamp(min=1)
        free = [node not in self._anchors for node in domains.node.tolist()]
        return (level - found.bound > FEW * gain) & torch.tensor(free, dtype=torch.bool) & bool(self.slopes)

    def _halved(self, domains: Open, found: Found, cut: Cut) -> Open:
        """The children of domains."""
        children = split(self.network, found, cut)
        nodes = self.recorder.split(self.network, domains.node, *cut)
        above, once = found.bound.repeat(2), torch.ones_like(nodes)
        return Open(children, domains.mix.repeat(2, 1), domains.group.repeat(2), nodes, above, once)

    def _leaves(self, domains: Open, level: float) -> bool:
        """Claims of domains without bent neurons, by linear programs."""
        if not self.exact.fits:
            return False
        member = torch.from_numpy(self.recorder.proof.rows.group.astype(np.int64))
        for row in range(len(domains)):
            one = domains[row : row + 1]
            _, _, proof, mix = self.exact.least(one.dual, member == one.group)
            one = replace(one, mix=mix)
            if not bool(self._claimed(one, bound(self.network, proof, mix, Ascent(steps=0)), level)):
                return False
        return True

    # ------------------------------------------------------------ anchors

    def _anchored(self, domains: Open) -> Open:
        """Domains with their neurons bounded afresh, at anchors; all have been split."""
        node = domains.node.numpy()
        self.recorder.builder.anchor(node)
        self._anchors.update(node.tolist())
        since = self._where[self.recorder.paths.neuron[node]]
        starts = np.array([0, *(held.first for held in self.slopes)])
        layer, dual = np.searchsorted(starts, since, side="right"), domains.dual
        low, high = dual.low.clone(), dual.high.clone()
        for number in np.unique(layer).tolist():
            mine = torch.from_numpy((layer == number).nonzero()[0])
            found, _ = retighten(self.network, dual[mine], self.slopes, int(since[mine.numpy()].min()))
            low[mine], high[mine] = found.low, found.high
        return replace(domains, dual=replace(dual, low=low, high=high))

    def _descend(self, domains: Open, level: float) -> list[Open]:
        """Anchors from the root down towards domains, until the claims of these hold; what is left has its own anchor.

        Each anchor starts from the bounds of the one above, and all domains below it are tried with its bounds.
        """
        paths, left, depth = self.recorder.paths, [], 0
        low, high = (end.expand_as(domains.dual.low) for end in (self.network.low, self.network.high))
        while len(domains):
            depth += 1
            node, first, inverse = np.unique(
                paths.at(domains.node.numpy(), depth), return_index=True, return_inverse=True
            )
            self.count += len(node)
            top = torch.from_numpy(first)
            edges = replace(domains.dual[top], low=low[top], high=high[top])
            tops = replace(domains[top], node=torch.from_numpy(node), dual=self._cut(edges, node))
            tops = self._anchored(tops)
            low, high = tops.dual.low[inverse], tops.dual.high[inverse]
            dual = self._cut(replace(domains.dual, low=low, high=high), domains.node.numpy())
            domains = replace(domains, dual=dual)
            kept = ~self._claimed(domains, bound(self.network, dual, domains.mix, Ascent(steps=0)), level)
            ends = torch.from_numpy(paths.depth[domains.node.numpy()] == depth)
            left.append(domains[kept & ends])
            more = kept & ~ends
            domains, low, high = domains[more], low[more], high[more]
        return left


def _doubled(network: Reduced) -> Reduced:
    """The network in float64."""
    blocks = []
    for block in network.blocks:
        held = {field.name: getattr(block, field.name) for field in fields(block)}
        double = {n: t.double() for n, t in held.items() if isinstance(t, Tensor) and t.is_floating_point()}
        blocks.append(replace(block, **double))
    region = Region(network.region.threat, network.region.x0.double())
    return Reduced(region, tuple(blocks), network.weight.double(), network.offset.double())
