"""AutoLip: norms multiplied along the graph."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from withstand.core.shapes import flattened
from withstand.lipschitz.layout import Layout
from withstand.lipschitz.maps import LinearMap
from withstand.lipschitz.norms import upper
from withstand.lipschitz.slopes import gain
from withstand.lipschitz.spectral import EPS

DUAL = {1: math.inf, 2: 2, math.inf: 1}
"""The norm that measures a row, by that of the changes it is applied to."""

ROWS = 2**22
"""Numbers of rows that go back through a map together."""


@dataclass(frozen=True, eq=False)
class AutoLip:
    """L_k = sum over the inputs i of node k of (largest norm of its derivative in i) * L_i (Virmaux and Scaman 2018,
    arXiv:1805.10965), over the joints of a layout, with changes measured in the norm p: 1, 2 or inf.

    constants: L of every joint and of the input. norms: of every map. All are certified upper bounds over all inputs.
    """

    layout: Layout
    p: float
    constants: dict[str, float] = field(default_factory=dict)
    norms: dict[LinearMap, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The constant of the network's output."""
        return self._sum(self.layout.maps[""][0])

    def rows(self, rows: Tensor) -> Tensor:
        """The constants [R] of linear functions of the output, rows [R, O] in float64."""
        maps, shape = self.layout.maps[""][0], self.layout.graph.output_shape
        found = rows.new_zeros(len(rows))
        for map in maps:
            size = max(map.inputs, map.outputs)
            back = [map.transpose(part.reshape(-1, *shape)) for part in rows.split(max(1, ROWS // size))]
            lengths = torch.cat([torch.linalg.vector_norm(flattened(b), DUAL[self.p], dim=1) for b in back])
            found += lengths * (1 + 4 * (map.inputs + map.outputs) * EPS) * self.constants[map.source]
        return found

    def _sum(self, maps: list[LinearMap]) -> float:
        for map in maps:
            if map not in self.norms:
                self.norms[map] = upper(map, self.p)
        return sum(self.norms[map] * self.constants[map.source] for map in maps)


def autolip(layout: Layout, p: float = 2) -> AutoLip:
    """Walk the joints. Raises InputError where one has no constant that holds over all inputs."""
    found = AutoLip(layout, p, {layout.graph.input: 1.0})
    for name, node in layout.joints.items():
        inner = [found._sum(maps) for maps in layout.maps[name]]
        found.constants[name] = gain(node, inner, layout.shapes, p) if layout.bends(name) else inner[0]
    return found
