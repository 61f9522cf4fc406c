"""Which pixels an input changes, in numpy: replay's own reckoning, apart from `withstand.core.sparse` and `patch`."""

from collections.abc import Sequence

import numpy as np

from withstand.core.images import channels_last, image_shape

NORMS = ("l0", "patch")
"""Threats whose distance is told by which pixels changed."""


def size(norm: str, x0: np.ndarray, x: np.ndarray, limits: Sequence[float]) -> float:
    """How many pixels changed, or the least factor on a patch's sides `limits` whose window holds all that did."""
    changed = x != x0
    if norm == "l0":
        if changed.ndim == 3:
            changed = changed.any(2 if channels_last(x.shape) else 0)
        return float(changed.sum())
    changed = np.moveaxis(changed, -1, 0) if channels_last(x.shape) else changed
    places = np.argwhere(changed.reshape(image_shape(x.shape)).any(0))
    sides = places.max(0) - places.min(0) + 1 if len(places) else np.zeros(2)
    return float((sides / np.asarray(limits)).max())
