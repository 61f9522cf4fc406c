"""The check of a certificate: every bound is computed again, and the trees must prove every group."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any, Protocol

import numpy as np

from withstand.checker.bounds import Parts
from withstand.checker.certificate import CUT, LEAF, Certificate
from withstand.checker.claims import Bounded
from withstand.checker.file import load
from withstand.checker.network import Network
from withstand.checker.reading import read_network
from withstand.checker.tree import Trees, covered
from withstand.checker.validity import validate
from withstand.checker.visit import Cuts, Visit

Array = np.ndarray

GRADE = "leaf-checked certificate"
"""The arithmetic of a proof that was checked here: float64 with outward slack."""


@dataclass(frozen=True)
class Report:
    """What a check found.

    holds: whether the certificate proves its question. least: for each group, what its best row is at least over the
    whole region, from its claims (minus infinity where a claim has no bound). leaves, anchors, claims: how many.
    failure: the first thing that does not hold, in a sentence.
    """

    holds: bool
    grade: str
    least: tuple[float, ...]
    threshold: float
    leaves: int
    anchors: int
    claims: int
    seconds: float
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; numbers that JSON does not know are null."""
        return {**asdict(self), "least": [least if np.isfinite(least) else None for least in self.least]}

    @property
    def sentence(self) -> str:
        """The same in words."""
        if not self.holds:
            return f"The certificate does not hold: {self.failure}"
        size = f"{self.claims:,} claims, {self.leaves:,} leaves, {self.anchors:,} anchors, {self.seconds:.1f} s"
        least = min(self.least)
        what = f"of at least {least:.6g}, above" if least > self.threshold else "above"
        return (
            f"The certificate holds ({self.grade}): over the whole region every group of rows has one {what} "
            f"{self.threshold:g} ({size})."
        )


def check(certificate: Certificate | str | PathLike[str], network: Network | str | PathLike[str] | bytes) -> Report:
    """Check a certificate, or its file, against a network, or its ONNX file.

    Raises InputError when one of them cannot be used. A certificate that is well formed but does not prove its question
    gives a report that says so.
    """
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        return _checked(certificate, network, began)


def holds_as_run(certificate: Certificate, network: Network) -> bool:
    """Whether a certificate that holds for real arithmetic also proves its question of the network as it is run in its
    own float type, the rounding errors of every sum and activation included. False says only that this is not shown.

    Raises InputError when one of them cannot be used.
    """
    machine = network.as_run
    return machine is not None and conclude(walk(certificate, machine), time.perf_counter()).holds


def _checked(
    certificate: Certificate | str | PathLike[str], network: Network | str | PathLike[str] | bytes, began: float
) -> Report:
    held = certificate if isinstance(certificate, Certificate) else load(certificate)
    net = network if isinstance(network, Network) else read_network(network)
    if held.digest != net.digest:
        failure = f"The certificate is about the network {held.digest[:16]} (sha256), not {net.digest[:16]}."
        least, seconds = (-np.inf,) * len(held.tree), time.perf_counter() - began
        return Report(False, "", least, held.rows.threshold, *_counts(held), seconds, failure)
    return conclude(walk(held, net), began)


def walk(
    certificate: Certificate,
    network: Network,
    wanted: Array | None = None,
    watch: Callable[[Visit, Array, Parts, Bounded], None] = lambda *found: None,
    pulse: Callable[[], None] = lambda: None,
    known: Visit | None = None,
) -> Visit:
    """All that can be computed of a certificate, or what the claims `wanted` [k] need (see `Visit`).

    Raises InputError when the certificate cannot be used.
    """
    with np.errstate(all="ignore"):
        visit = Visit(certificate, network, validate(certificate, network), wanted, watch, pulse, known)
        visit.run()
    return visit


class Findings(Protocol):
    """What is known of a certificate: bounds [C] of all claims, what its cuts prove, and which parts are empty."""

    @property
    def certificate(self) -> Certificate: ...
    @property
    def trees(self) -> Trees: ...
    @property
    def bound(self) -> Array: ...
    @property
    def cuts(self) -> Cuts: ...
    @property
    def empty(self) -> Array: ...


def conclude(visit: Findings, began: float) -> Report:
    """The report on a certificate all of whose claims were bounded. began: `time.perf_counter` at the start."""
    held = visit.certificate
    with np.errstate(all="ignore"):
        failure = _failed_claim(held, visit.bound) or _hole(visit.trees, visit)
    least = tuple(_least(held, visit).tolist())
    grade = "" if failure else GRADE
    return Report(not failure, grade, least, held.rows.threshold, *_counts(held), time.perf_counter() - began, failure)


def claim_bounds(certificate: Certificate, network: Network) -> Array:
    """Lower bounds [C] of all claims on the best row of their group over their node: each must be above the threshold,
    but for those at cuts. Infinite where the part is empty, minus infinity where there is no bound.

    Raises InputError when the certificate cannot be used.
    """
    return walk(certificate, network).bound


def _counts(certificate: Certificate) -> tuple[int, int, int]:
    """Leaves, anchors and claims."""
    nodes = certificate.nodes
    return int((nodes.kind == LEAF).sum()), int((nodes.anchor > 0).sum()), len(certificate.claims)


def _at_cut(certificate: Certificate) -> Array:
    return certificate.nodes.kind[certificate.claims.node] == CUT


def _failed_claim(certificate: Certificate, bound: Array) -> str:
    threshold = certificate.rows.threshold
    failed = (~(bound > threshold) & ~_at_cut(certificate)).nonzero()[0]
    if not len(failed):
        return ""
    claim, c = int(failed[0]), certificate.claims
    return (
        f"Claim {claim} (group {c.group[claim]}, node {c.node[claim]}) has the bound {bound[claim]:.6g}, which is not "
        f"above {threshold:g}; {len(failed)} of {len(bound)} claims fail."
    )


def _hole(trees: Trees, visit: Findings) -> str:
    certificate = trees.certificate
    whole = (visit.bound > certificate.rows.threshold).nonzero()[0]
    node = np.concatenate([certificate.claims.node[whole], visit.cuts.node])
    group = np.concatenate([certificate.claims.group[whole], visit.cuts.group])
    single = np.concatenate([np.zeros(len(whole), bool), ~visit.cuts.gone])
    open_groups = (~covered(trees, node, group, single, visit.empty)).nonzero()[0]
    if not len(open_groups):
        return ""
    return f"The claims leave a part of the region without proof for group {open_groups[0]}."


def _least(certificate: Certificate, visit: Findings) -> Array:
    least = np.full(len(certificate.tree), np.inf)
    mine = ~_at_cut(certificate)
    np.minimum.at(least, certificate.claims.group[mine], visit.bound[mine])
    np.minimum.at(least, visit.cuts.group, certificate.rows.threshold)
    return least
