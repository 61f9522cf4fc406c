"""Certificates that hold: what a search claimed is bounded by the checker, and parts whose claims fail are split on.

A search computes in float32 and has bounds of its own, so that some of its claims miss the threshold by a little when
the checker bounds them. Such a claim is taken back. Its node's leaves get neurons bounded afresh, and are halved, at an
input where there are few and else at a neuron, until everything holds or the limit of work is reached.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from withstand.checker.bounds import Parts
from withstand.checker.certificate import CUT, LEAF, ONCE, TWICE, Certificate
from withstand.checker.check import Report, conclude, walk
from withstand.checker.claims import Bounded
from withstand.checker.tree import Trees
from withstand.checker.validity import validate
from withstand.checker.visit import Cuts, Visit
from withstand.core.budget import TimeOver, check_time
from withstand.verification.memory import is_out_of_memory
from withstand.verification.mend_split import Split, splits
from withstand.verification.portfolio import FEW_INPUTS
from withstand.verification.proof import Proof

Array = np.ndarray

GROWTH = 4
"""A certificate may grow to so many times its nodes, and SPARE more, while it is mended."""

SPARE = 256

MAX_PAIRED = 4
"""Groups of up to so many rows are claimed by the mean of every two as well."""

MANY = 16
"""Groups of more rows are claimed by their mean, others by each row as well."""


PRICES = (0.0, 0.25, 0.5, 1.0)
"""Multipliers of a fresh split of a neuron, in shares of the neuron's coefficient."""

ROOM = 1e-12
"""How far above the threshold claims must be, so that they are so whatever the order of sums on another machine."""


@dataclass(frozen=True)
class Certified:
    """What became of a proof: a certificate with the checker's report that it holds, or why there is none."""

    certificate: Certificate | None = None
    report: Report | None = None
    reason: str = ""


def certify(proof: Proof) -> Certified:
    """The certificate of a question that was proved, mended where it has to be, and checked, in the time of the budget
    inside which this is called (see `Budget.enforced`)."""
    if not proof.begun:
        return Certified(reason="the method that proved it writes no certificates")
    try:
        proof.finish()
        return _Mending(proof).run()
    except TimeOver:
        return Certified(reason="the time was over before its certificate was checked")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return Certified(reason="memory ran out")


class _Failed(NamedTuple):
    """The best of the claims that failed at a node: its bound, where to split the node, and what it was made of
    (multipliers: one for each neuron split above)."""

    bound: float
    split: Split
    weight: Array
    slopes: int
    multipliers: Array

    def prices(self) -> Array:
        """Multipliers worth a try at the children of the node: [k, depth], of the split's neuron the last."""
        if self.split.input:
            return self.multipliers[None]
        shares = np.array(PRICES) * self.split.coefficient
        return np.column_stack([np.tile(self.multipliers, (len(shares), 1)), shares])


class _Found(NamedTuple):
    """The findings of several walks (see `withstand.checker.check.Findings`)."""

    certificate: Certificate
    trees: Trees
    bound: Array
    cuts: Cuts
    empty: Array


class _Mending:
    """One certificate while it is mended. Claims have the builder's numbers; nodes never change theirs.

    proved: bool [N, groups], where claims that hold, or cuts that leave nothing, prove a group in all of a node's part.
    bounds, cuts, empty: what the checker found of claims, cuts and nodes so far. Each was computed on the part that its
    node has in the end, so that together they are a check of the whole.
    """

    def __init__(self, proof: Proof) -> None:
        self.proof, self.builder = proof, proof.builder
        self.members = np.bincount(proof.rows.group)
        self.few = proof.network.inputs <= FEW_INPUTS
        self.failed: dict[int, dict[int, _Failed]] = {}
        self.proved = np.zeros((0, proof.rows.groups), bool)
        self.bounds = np.zeros(0)
        self.cuts: dict[tuple[int, int], bool] = {}
        self.empty = np.zeros(0, bool)

    def run(self) -> Certified:
        """Bound, split, and bound what is new, until nothing is open."""
        began, certificate = time.perf_counter(), self.builder.certificate()
        limit = GROWTH * len(certificate.nodes) + SPARE
        self._bound(certificate, self.builder.kept)
        while True:
            certificate = self.builder.certificate()
            node, group = self._open(certificate)
            if not len(node):
                break
            if len(certificate.nodes) > limit:
                return Certified(reason=f"its certificate would need more than {limit:,} parts")
            if not len(fresh := self._mend(certificate, node, group)):
                return Certified(reason="its certificate does not hold, and no split would mend it")
            self._bound(self.builder.certificate(), fresh)
        report = conclude(self._found(certificate), began)
        return Certified(certificate, report) if report.holds else Certified(reason=report.failure)

    def _found(self, certificate: Certificate) -> _Found:
        """What was found of a certificate, in pieces."""
        trees = validate(certificate, self.proof.network)
        pairs = np.array(list(self.cuts), np.int64).reshape(-1, 2)
        cuts = Cuts(pairs[:, 0], pairs[:, 1], np.array(list(self.cuts.values()), bool))
        return _Found(certificate, trees, self.bounds[self.builder.kept], cuts, self.empty.nonzero()[0])

    def _bound(self, certificate: Certificate, fresh: Array) -> None:
        """Bound claims anew. Of those of one group at one node the best is kept, if it holds."""
        place = np.searchsorted(self.builder.kept, fresh)
        visit = walk(certificate, self.proof.network, place, self._watch(certificate), check_time)
        claims = certificate.claims
        node, group, bound = claims.node[place], claims.group[place], visit.bound[place]
        free = (certificate.nodes.kind[node] != CUT).nonzero()[0]
        order = free[np.lexsort((-bound[free], group[free], node[free]))]
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(node[order]) != 0) | (np.diff(group[order]) != 0)
        holds = first & (bound[order] > self.proof.rows.threshold + ROOM)
        self._learn(visit, fresh, visit.bound[place])
        self.builder.drop(fresh[order[~holds]])
        self.proved[node[order], group[order]] = False
        self.proved[node[order[holds]], group[order[holds]]] = True

    def _learn(self, visit: Visit, claim: Array, bound: Array) -> None:
        nodes, most = len(visit.certificate.nodes), int(self.builder.kept.max(initial=-1)) + 1
        grown = np.zeros((nodes - len(self.proved), self.proved.shape[1]), bool)
        self.proved = np.concatenate([self.proved, grown])
        self.empty = np.concatenate([self.empty, np.zeros(nodes - len(self.empty), bool)])
        self.bounds = np.concatenate([self.bounds, np.full(max(0, most - len(self.bounds)), -np.inf)])
        self.bounds[claim] = bound
        cuts = visit.cuts
        self.cuts.update(zip(zip(cuts.node.tolist(), cuts.group.tolist()), cuts.gone.tolist(), strict=True))
        self.proved[cuts.node, cuts.group] = cuts.gone
        self.empty[visit.empty] = True
        self.proved[visit.empty] = True

    def _watch(self, certificate: Certificate) -> Callable[[Visit, Array, Parts, Bounded], None]:
        """Learns where to split the nodes of claims that fail."""
        claims, widths = certificate.claims, self.members[certificate.claims.group]
        weights = np.concatenate([[0], np.cumsum(widths)])
        multipliers = np.concatenate([[0], np.cumsum(claims.count)])

        def watch(visit: Visit, claim: Array, parts: Parts, found: Bounded) -> None:
            bad = (~(found.bound > self.proof.rows.threshold + ROOM)).nonzero()[0]
            if not len(bad):
                return
            where = splits(visit.claiming, claim[bad], parts[bad], found.slope[bad])
            for k, split in zip(bad.tolist(), where, strict=True):
                number, node = int(claim[k]), int(claims.node[claim[k]])
                held, group = self.failed.setdefault(node, {}), int(claims.group[claim[k]])
                if group in held and held[group].bound >= found.bound[k]:
                    continue
                held[group] = _Failed(
                    float(found.bound[k]),
                    split,
                    claims.weight[weights[number] : weights[number + 1]],
                    int(claims.slopes[number]),
                    _padded(claims.multipliers[multipliers[number] : multipliers[number + 1]], visit.trees.pulls[node]),
                )

        return watch

    def _open(self, certificate: Certificate) -> tuple[Array, Array]:
        """The nodes [K] and groups [K] to prove yet: leaves, and cuts without a claim of the group."""
        nodes, claims = certificate.nodes, certificate.claims
        cutting = np.zeros_like(self.proved)
        cutting[claims.node, claims.group] = True
        place, wanted = certificate.root, certificate.tree == np.arange(len(certificate.root))[:, None]
        found, groups = [np.zeros(0, int)], [np.zeros(0, int)]
        while len(place):
            wanted = wanted & ~self.proved[place]
            ends = (nodes.kind[place] == LEAF)[:, None] | ((nodes.kind[place] == CUT)[:, None] & ~cutting[place])
            end, group = (wanted & ends).nonzero()
            found.append(place[end])
            groups.append(group)
            wanted = wanted & ~ends
            place, wanted = place[wanted.any(1)], wanted[wanted.any(1)]
            child = nodes.child[place].T
            below = child >= 0
            place, wanted = child[below], np.concatenate([wanted[below[0]], wanted[below[1]]])
        return np.concatenate(found), np.concatenate(groups)

    def _mend(self, certificate: Certificate, node: Array, group: Array) -> Array:
        """Claim open leaves over neurons bounded afresh; where that has failed cut them, and where that too has failed
        halve them. Gives the claims to bound."""
        cuts, kept = certificate.nodes.kind == CUT, self.builder.kept
        below_cut = np.zeros(len(cuts), bool)
        below_cut[certificate.nodes.child[cuts, 0]] = True
        fresh: list[Array] = []
        for leaf in np.unique(node).tolist():
            groups, failed = group[node == leaf], self.failed.get(leaf)
            if cuts[leaf]:
                self._claim(np.array([leaf]), groups)
                fresh.append(self._below(certificate, kept, leaf))
                continue
            if failed is None:
                fresh.append(self._claim(np.array([leaf]), groups))
                continue
            if self.few and certificate.nodes.anchor[leaf] != TWICE:
                fresh.append(self._claim(np.array([leaf]), groups, failed))
                continue
            split = min(failed.values(), key=lambda one: one.bound).split
            if split.place < 0:
                return np.zeros(0, int)
            if split.input and not below_cut[leaf]:
                self._claim(np.array([leaf]), groups, failed)
                children = self.builder.cut(np.array([leaf]))
            else:
                halve = self.builder.split_input if split.input else self.builder.split_neuron
                sides = halve(np.array([leaf]), np.array([split.place]), np.array([split.point]))
                children = np.concatenate(sides)
                failed = {number: one._replace(split=split) for number, one in failed.items()}
            fresh.append(self._claim(children, groups, failed))
        touched = np.zeros(len(cuts), bool)
        touched[node] = True
        fresh.append(kept[touched[certificate.claims.node]])
        return np.unique(np.concatenate(fresh))

    def _below(self, certificate: Certificate, kept: Array, node: int) -> Array:
        """The claims below a cut, all of whose bounds a new claim there changes; what was found there is forgotten."""
        children = certificate.nodes.child[node]
        below = np.zeros(len(certificate.nodes), bool)
        while len(children := children[children >= 0]):
            below[children] = True
            children = certificate.nodes.child[children].ravel()
        self.proved[below] = False
        self.empty[below] = False
        self.cuts = {pair: gone for pair, gone in self.cuts.items() if not below[pair[0]]}
        return kept[below[certificate.claims.node]]

    def _claim(self, node: Array, group: Array, failed: dict[int, _Failed] | None = None) -> Array:
        """Claims of groups at nodes: of every row, of means, and made as the one that failed above."""
        self.builder.anchor(node, TWICE if self.few else ONCE)
        made = []
        for number in group.tolist():
            weights = self._weights(int(self.members[number]))
            at, groups = np.repeat(node, len(weights)), np.full(len(node) * len(weights), number)
            made.append(self.builder.claim(at, groups, np.tile(weights, (len(node), 1))))
            if failed is None or number not in failed:
                continue
            one = failed[number]
            prices = one.prices() if len(node) > 1 else one.multipliers[None]
            at, groups = np.repeat(node, len(prices)), np.full(len(node) * len(prices), number)
            weight, slopes = np.tile(one.weight, (len(at), 1)), np.full(len(at), one.slopes)
            made.append(self.builder.claim(at, groups, weight, slopes, np.tile(prices, (len(node), 1))))
        return np.concatenate(made)

    def _weights(self, size: int) -> Array:
        """Weights of a group's rows that are worth a claim."""
        rows, mean = np.eye(size), np.full((1, size), 1 / size)
        if size == 1 or size > MANY:
            return mean
        pairs = [(rows[i] + rows[j]) / 2 for i in range(size) for j in range(i)] if 2 < size <= MAX_PAIRED else []
        return np.stack([*rows, mean[0], *pairs])


def _padded(multipliers: Array, depth: int) -> Array:
    """Multipliers of all splits above; none at all are zeros."""
    return multipliers if len(multipliers) else np.zeros(depth)
