"""Networks that are matrices in a row with functions of one number between them, as the tighter bounds need them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from withstand.lipschitz.layout import Layout
from withstand.lipschitz.norms import is_small
from withstand.lipschitz.slopes import Slopes, slopes

LEAST = 1e-70
"""The product of the largest entries of matrices in a row lies between this and its inverse: their squares are squared
once more, and float64 ends at 1e-308 and 1e308."""


@dataclass(frozen=True, eq=False)
class Chain:
    """x -> M_K s_{K-1}(M_{K-1} ... s_1(M_1 x)), up to constants.

    matrices: M_1 to M_K in float64. slopes: the least and largest slope of s_1 to s_{K-1}.
    """

    matrices: Sequence[Tensor]
    slopes: Sequence[Slopes]

    @property
    def widths(self) -> list[int]:
        """How many numbers each s_i acts on."""
        return [len(matrix) for matrix in self.matrices[:-1]]


def chain(layout: Layout) -> Chain | str:
    """The layout as a chain, or a sentence that says why it is none."""
    before, maps, limits = layout.graph.input, [], []
    for name, node in layout.joints.items():
        held = slopes(node)
        if held is None or len(layout.maps[name]) != 1 or [m.source for m in layout.maps[name][0]] != [before]:
            return f"the network is no chain of matrices and functions of one number: see {name!r}"
        maps.append(layout.maps[name][0][0])
        limits.append(held)
        before = name
    if [m.source for m in layout.maps[""][0]] != [before]:
        return "the network is no chain of matrices and functions of one number: see its output"
    maps.append(layout.maps[""][0][0])
    large = next((map for map in maps if not is_small(map)), None)
    if large is not None:
        return f"{large.name!r} has {large.outputs} x {large.inputs} entries, too many to write out"
    matrices = [map.matrix() for map in maps]
    sizes = [float(matrix.abs().max()) for matrix in matrices if matrix.numel()]
    if not all(LEAST < math.prod(part) < 1 / LEAST for part in _runs([size for size in sizes if size > 0])):
        return "the matrices multiply to numbers whose squares are too large or too small for float64"
    return Chain(matrices, limits)


def _runs(sizes: list[float]) -> list[list[float]]:
    """The sizes of all matrices in a row: first to last, for every first and last."""
    return [sizes[i:j] for i in range(len(sizes)) for j in range(i + 1, len(sizes) + 1)]
