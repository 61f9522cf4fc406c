"""Claims that fall short in the checker's arithmetic are proved once more, in float64 and from the checker's own bounds.

A search computes in float32, tightens its neurons' bounds on every domain, and its slopes are rounded to bytes when
they are stored. The checker has the bounds over the whole region, cut by the splits. Branch and bound goes on below the
nodes whose claims fail, with exactly these.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from withstand.checker.check import visited
from withstand.checker.visit import Visit
from withstand.verification.batch import Batch
from withstand.verification.branching import choose, split
from withstand.verification.dual import Ascent, Dual, Found, bound, start
from withstand.verification.exact import Exact
from withstand.verification.recorder import Recorder
from withstand.verification.reduced import Neurons, Planes, Reduced, Region, settle

Array = np.ndarray

ROUNDS = 4
"""How often claims are made and checked."""

MORE, LEAST = 4, 1000
"""Domains bounded anew at most: so many times the search's, and so many more."""

TOGETHER = 256
"""Domains worked on at once."""


@dataclass(frozen=True)
class Failed(Batch):
    """Domains whose claims fail: choices, mix of rows [P, R], group [P] and node [P]."""

    dual: Dual
    mix: Tensor
    group: Tensor
    node: Tensor


@torch.no_grad()
def certify(recorder: Recorder, network: Reduced, left: "Failed | None", margin: float, count: int) -> bool:
    """Make the certificate of a question that a search has settled hold: gives whether it does.

    network, left: the search's, and the domains it left open because their bounds suffice. margin: what bounds have to
    exceed. count: domains that the search bounded; new proofs may take `MORE` times as many.
    """
    if left is not None:
        recorder.hold(network, left.dual, left.mix, left.group, left.node)
    recorder.aim()
    return Reprover(recorder, recorder.whole, margin, MORE * count + LEAST).run()


class Reprover:
    """Mends the claims of one certificate.

    whole: the search's network before anything was composed away that bounds found later decided. margin: what bounds
    of new claims must exceed. most: domains bounded at most.
    """

    def __init__(self, recorder: Recorder, whole: Reduced, margin: float, most: int, steps: int = 20) -> None:
        self.recorder, self.whole, self.margin, self.most = recorder, whole, margin, most
        self.how, self.count = Ascent(steps=steps), 0
        self.visit: Visit | None = None

    @torch.no_grad()
    def run(self) -> bool:
        """Check all claims, and prove what fails anew. Gives whether all claims hold in the end."""
        builder = self.recorder.builder
        failing = self._failing(builder.kept)
        self.first = len(failing)
        if not len(failing):
            return True
        self._prepare()
        level = self.margin
        for _ in range(ROUNDS):
            domains = self._domains(failing)
            builder.drop(failing)
            before = len(builder.kept)
            if not self._prove(domains, level):
                return False
            failing = self._failing(builder.kept[before:])
            if not len(failing):
                return True
            level *= 4
        return False

    def _failing(self, claim: Array) -> Array:
        """Which of some claims, all of the latest, do not hold."""
        builder = self.recorder.builder
        certificate = builder.certificate(claim)
        network = self.recorder.proof.network
        self.visit = visited(certificate, network, self.visit)
        return claim[~(self.visit.bound > certificate.rows.threshold)]

    def _prepare(self) -> None:
        """The reduced network in float64 under the checker's bounds over the whole region."""
        assert self.visit is not None
        whole = _doubled(self.whole)
        neurons = self.recorder.of(whole)
        low, high = (torch.from_numpy(edge[0, neurons]) for edge in (self.visit.whole.below, self.visit.whole.above))
        self.network = settle(whole, low, high)
        self.neurons = self.recorder.of(self.network)
        self.exact = Exact(self.network)

    def _domains(self, claim: Array) -> Failed:
        """The domains of claims, with the choices that were stored and the checker's bounds."""
        recorder, builder = self.recorder, self.recorder.builder
        certificate = builder.certificate(claim)
        held, node = certificate.claims, certificate.claims.node.astype(np.int64)
        dual = start(self.network)[torch.zeros(len(claim), dtype=torch.long)]
        row, above = recorder.paths.up(node)
        where = np.full(recorder.proof.network.neurons, -1)
        where[self.neurons] = np.arange(len(self.neurons))
        place, side = where[recorder.paths.neuron[above]], recorder.paths.side[above]
        mine = place >= 0
        row, above, place, side = row[mine], above[mine], place[mine], side[mine]
        point = certificate.nodes.point[recorder.paths.parent[above]]
        low, high, phase = (t.clone().numpy() for t in (dual.low, dual.high, dual.phase))
        np.maximum.at(low, (row[side == 1], place[side == 1]), point[side == 1])
        np.minimum.at(high, (row[side == 0], place[side == 0]), point[side == 0])
        phase[row, place] = np.where(side == 1, 1.0, -1.0)
        mix = np.zeros((len(claim), len(certificate.rows.group)))
        first = 0
        for k, group in enumerate(held.group.tolist()):
            members = (certificate.rows.group == group).nonzero()[0]
            mix[k, members] = held.weight[first : first + len(members)]
            first += len(members)
        low, high, phase = (torch.from_numpy(t) for t in (low, high, phase))
        dual = replace(dual, low=low, high=high, phase=phase)
        group = torch.from_numpy(held.group.astype(np.int64))
        return Failed(dual, torch.from_numpy(mix), group, torch.from_numpy(node))

    def _prove(self, domains: Failed, level: float) -> bool:
        """Claims that cover the domains; false where the work gets too much or nothing is left to split."""
        stack = [domains]
        while stack:
            taken = stack.pop()
            if len(taken) > TOGETHER:
                stack.append(taken[TOGETHER:])
                taken = taken[:TOGETHER]
            self.count += len(taken)
            if self.count > self.most:
                return False
            found = bound(self.network, taken.dual, taken.mix, self.how, level)
            mix = taken.mix if found.mix is None else found.mix
            stored = self._stored(found, mix)
            good = stored.bound > level
            if bool(good.any()):
                self.recorder.claim(self.network, stored[good], mix[good], taken.group[good], taken.node[good])
            left = (~good).nonzero().squeeze(1)
            if not len(left):
                continue
            found, mix, group, node = found[left], mix[left], taken.group[left], taken.node[left]
            neuron = choose(self.network, found, torch.full_like(found.bound, level))
            ends, bent = (neuron < 0).nonzero().squeeze(1), (neuron >= 0).nonzero().squeeze(1)
            if len(ends) and not self._leaves(Failed(found.dual, mix, group, node)[ends], level):
                return False
            if len(bent):
                point = torch.zeros(len(bent), dtype=torch.float64)
                children = split(found[bent], neuron[bent], point)
                nodes = self.recorder.split(self.network, node[bent], neuron[bent], point)
                stack.append(Failed(children, mix[bent].repeat(2, 1), group[bent].repeat(2), nodes))
        return True

    def _stored(self, found: Found, mix: Tensor) -> Found:
        """What is bounded by choices as certificates store them: slopes in bytes, the rest in float32."""
        dual = found.dual
        lower = (dual.lower.clamp(0, 1) * 255).round() / 255
        return bound(self.network, replace(dual, lower=lower, price=dual.price.float().double()), mix, Ascent(steps=0))

    def _leaves(self, domains: Failed, level: float) -> bool:
        """Claims of domains without bent neurons, by linear programs."""
        if not self.exact.fits:
            return False
        member = torch.from_numpy(self.recorder.proof.rows.group.astype(np.int64))
        for row in range(len(domains)):
            one = domains[row : row + 1]
            value, _, proof, mix = self.exact.least(one.dual, member == one.group)
            found = self._stored(bound(self.network, proof, mix, Ascent(steps=0)), mix)
            if float(found.bound) <= level:
                return False
            self.recorder.claim(self.network, found, mix, one.group, one.node)
        return True


def _doubled(network: Reduced) -> Reduced:
    """The network in float64."""
    blocks = []
    for block in network.blocks:
        names = ["weight", "bias"] + (["low", "high"] if isinstance(block, Neurons) else [])
        names += ["upper_weight", "upper_bias"] if isinstance(block, Planes) else []
        blocks.append(replace(block, **{name: getattr(block, name).double() for name in names}))
    region = Region(network.region.threat, network.region.x0.double())
    return Reduced(region, tuple(blocks), network.weight.double(), network.offset.double())
