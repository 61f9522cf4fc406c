"""How the shape of one sample is read as an image. No torch here: replay reads shapes too."""

import math
from collections.abc import Sequence

CHANNELS = (1, 3, 4)
"""Sizes of an axis of channels that stands last (grey, colour, colour with opacity)."""


def channels_last(shape: Sequence[int]) -> bool:
    """Whether a sample of three axes holds its channels in the last one, not in the first."""
    return len(shape) == 3 and shape[-1] in CHANNELS and shape[0] not in CHANNELS


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width of a sample: the last two axes are the picture's, unless `channels_last`.

    A sample of one axis is a picture of one row.
    """
    if channels_last(shape):
        return shape[2], shape[0], shape[1]
    *channels, height, width = (1, 1, *shape)
    return math.prod(channels), height, width
