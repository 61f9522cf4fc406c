"""Certificates of questions, kept while searches make them."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from withstand.checker.builder import Builder
from withstand.checker.certificate import Certificate, Rows
from withstand.checker.network import Network
from withstand.checker.region import Region
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.shapes import flattened
from withstand.core.threat import Threat

NORMS = {"linf": "box", "box": "box", "l1": "l1", "l2": "l2"}
"""The regions that the checker knows, by the norms of threats."""

WIDER = 1e-12
"""Share of the radius that is added to it: distances are computed in float64 when membership is decided."""


class Proof:
    """The certificate of one question, in the making: rows over a region of a network, as the checker reads them.

    A search that starts on the question calls `begin` and tells the builder what it does; what an earlier search told
    is forgotten, since only one of them settles the question. begun: whether the search at work has done so. rest: what
    a search that has settled the question leaves to be done for its certificate, which nobody may want to wait for.
    """

    def __init__(self, network: Network, region: Region, rows: Rows) -> None:
        self.network, self.region, self.rows = network, region, rows
        self.builder = Builder(network, region, rows)
        self.begun = False
        self.rest: Callable[[], object] | None = None

    def begin(self) -> Builder:
        """An empty certificate for a new search."""
        self.builder = Builder(self.network, self.region, self.rows)
        self.begun, self.rest = True, None
        return self.builder

    def finish(self) -> None:
        """Do the rest. Raises TimeOver where the time of a budget is over inside which this is called."""
        rest, self.rest = self.rest, None
        if rest is not None:
            rest()

    def is_of(self, certificate: Certificate) -> bool:
        """Whether a certificate is of this question."""
        region, rows = certificate.region, certificate.rows
        pairs = [(region.low, self.region.low), (region.high, self.region.high)]
        pairs += [(rows.weight, self.rows.weight), (rows.offset, self.rows.offset), (rows.group, self.rows.group)]
        if region.centre is not None and self.region.centre is not None:
            pairs.append((region.centre, self.region.centre))
        told = (certificate.digest, region.norm, region.radius, rows.threshold)
        mine = (self.network.digest, self.region.norm, self.region.radius, self.rows.threshold)
        return told == mine and all(np.array_equal(*pair) for pair in pairs)

    def forget(self) -> None:
        """Another search takes over, which may write no certificates."""
        self.begun, self.rest = False, None


def proofs_of(network: Network, threat: Threat, property: Property, x0: Tensor, y: Tensor) -> list[Proof]:
    """An empty proof for each question: does the property hold for every x in the threat around x0 [B, *shape], with
    targets y [B]?

    Raises InputError where the checker has no such region.
    """
    rows = property.rows(y.cpu(), network.outputs, torch.float64)
    held = zip(regions_of(threat, x0), rows.weight.numpy(), rows.offset.numpy(), strict=True)
    group = rows.group.int().numpy()
    return [Proof(network, region, Rows(weight, offset, group)) for region, weight, offset in held]


def regions_of(threat: Threat, x0: Tensor) -> list[Region]:
    """The threat around each x0 [B, *shape] in float64: all that membership lets in, and at the edges a few roundings
    more, such as those of the decimals of a VNN-LIB file.

    Raises InputError where the checker has no such region.
    """
    if threat.norm not in NORMS:
        known = ", ".join(NORMS)
        raise InputError(f"Proofs over the threat {threat.norm} have no certificates; those over {known} do.")
    centre = x0.detach().cpu().double()
    edges = threat.box(centre)
    low, high = (flattened(edge.cpu().expand_as(centre)).numpy() for edge in edges)
    for _ in range(2):
        low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    if threat.norm != "box":
        low, high = np.maximum(low, threat.domain[0]), np.minimum(high, threat.domain[1])
    if NORMS[threat.norm] == "box":
        return [Region(*edge) for edge in zip(low, high, strict=True)]
    radius = threat.reaches(centre).expand(len(centre), *(1,) * (centre.dim() - 1)).flatten().tolist()
    balls = zip(low, high, flattened(centre).numpy(), radius, strict=True)
    return [
        Region(below, above, threat.norm, start, math.nextafter(length * (1 + WIDER), math.inf))
        for below, above, start, length in balls
    ]
