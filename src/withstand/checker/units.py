"""Rows of single neurons, begun on their way back."""

import numpy as np

from withstand.checker.descent import Rows
from withstand.checker.maps import Dense
from withstand.checker.network import Activation, Affine, Network
from withstand.checker.sizes import Sizes

Array = np.ndarray


def units(network: Network, sizes: Sizes, step: Activation, index: Array) -> tuple[Rows, int]:
    """Rows of neurons index [k, R] of an activation and then of their negatives [k, 2R], and the number of the step
    before which they stand: they are already through an affine map, which both share."""
    maker = network.makers[step.source] if step.source else 0
    made, none = network.steps[maker], np.zeros(index.shape)
    if not isinstance(made, Affine) or not step.source:
        rows = Rows({step.source: unit_rows(index, network.sizes[step.source])}, none, none.copy(), sizes)
        return rows.mirrored(), maker + 1
    if len(made.maps) == 1 and isinstance(made.maps[0], Dense) and made.maps[0].blocks == 1:
        bias = none if made.bias is None else made.bias[index]
        slack = sizes.backward[made.out][index]
        return Rows({made.sources[0]: made.maps[0].weight[index]}, bias, slack, sizes).mirrored(), maker
    unit = unit_rows(index, network.sizes[step.source])
    rows = Rows({}, none, unit @ sizes.backward[made.out], sizes)
    rows.through_affine(made, unit)
    return rows.mirrored(), maker


def unit_rows(index: Array, size: int) -> Array:
    """Unit vectors [k, R, size]."""
    unit = np.zeros((*index.shape, size))
    np.put_along_axis(unit, index[:, :, None], 1.0, 2)
    return unit
