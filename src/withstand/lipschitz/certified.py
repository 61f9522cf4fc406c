"""The certified constants of a network, each computed once, when it is first asked for."""

import math
from functools import cache, cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from withstand.graph.ir import Graph
from withstand.lipschitz.autolip import AutoLip, autolip
from withstand.lipschitz.chain import Chain, chain
from withstand.lipschitz.eclipse import Eclipse, eclipse
from withstand.lipschitz.layout import Layout, layout
from withstand.lipschitz.seqlip import SeqLip, seqlip

NORMS: tuple[float, ...] = (2, math.inf, 1)
"""The norms in which changes are measured."""


class Certified:
    """AutoLip in each norm, and for chains SeqLip and ECLipsE-Fast in l2; a sentence instead where one does not apply.

    Raises InputError when an operator has no bound rule; what asks for a constant does where the network has none.
    """

    def __init__(self, graph: Graph) -> None:
        self.layout: Layout = layout(graph)
        self.autolip = cache(self._autolip)

    def _autolip(self, p: float) -> AutoLip:
        return autolip(self.layout, p)

    @cached_property
    def chain(self) -> Chain | str:
        """The network as matrices in a row."""
        return chain(self.layout)

    @cached_property
    def eclipse(self) -> Eclipse | str:
        """ECLipsE-Fast."""
        return self.chain if isinstance(self.chain, str) else eclipse(self.chain)

    @cached_property
    def seqlip(self) -> SeqLip | str:
        """SeqLip, which is certified only where it is exact."""
        return self.chain if isinstance(self.chain, str) else seqlip(self.chain)

    def methods(self, p: float) -> dict[str, AutoLip | SeqLip | Eclipse]:
        """What bounds the constants in the norm p from above, certified."""
        found: dict[str, AutoLip | SeqLip | Eclipse] = {"autolip": self.autolip(p)}
        if p == 2 and isinstance(self.eclipse, Eclipse):
            found["eclipse-fast"] = self.eclipse
        if p == 2 and isinstance(self.seqlip, SeqLip) and self.seqlip.certified:
            found["seqlip"] = self.seqlip
        return found

    def rows(self, rows: Tensor, p: float) -> Tensor:
        """The tightest constants [R] of linear functions of the flat output, rows [R, O] in float64."""
        return torch.stack([method.rows(rows) for method in self.methods(p).values()]).amin(0)


_KNOWN: "WeakKeyDictionary[Graph, tuple[str, Certified]]" = WeakKeyDictionary()
"""By graph, with the digest of the weights it was made for."""


def certified(graph: Graph) -> Certified:
    """The constants of a graph, kept for as long as the graph lives and its weights stay as they are."""
    digest = graph.digest()
    known = _KNOWN.get(graph)
    if known is None or known[0] != digest:
        known = _KNOWN[graph] = (digest, Certified(graph))
    return known[1]
