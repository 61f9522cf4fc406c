"""Witnesses of 8-bit inputs as pictures: the pixels are the very input that reaches the deployed model."""

import math
from pathlib import Path

import numpy as np

from withstand.core.errors import InputError
from withstand.core.tolerance import grid
from withstand.io.images import pixels_of


def is_picture(shape: tuple[int, ...], levels: int, domain: tuple[float, float]) -> bool:
    """Whether one sample of this shape, stored in 8 bits, is a grey or a colour picture."""
    return len(shape) == 3 and shape[0] in (1, 3) and levels == 255 and math.isfinite(domain[1] - domain[0])


def write_png(x: np.ndarray, path: Path, domain: tuple[float, float] = (0.0, 1.0)) -> None:
    """Write an input [1 or 3, H, W] on the grid of 256 values of the domain; a reader sees all of the file or
    nothing."""
    from PIL import Image

    first, per_unit = grid(domain, 255)
    pixels = np.rint((x.astype(np.float64) - first) * per_unit).astype(np.uint8)
    beside = path.with_name(f".{path.name}.tmp")
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(beside, format="PNG")
    beside.replace(path)


def read_png(path: Path, shape: tuple[int, ...], domain: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """The input [1 or 3, H, W] of a domain in a picture's pixels.

    Raises InputError when it cannot be read or has another shape.
    """
    pixels, mode = pixels_of(path, "L" if shape[0] == 1 else "RGB")
    whole = mode in ("L", "RGB")
    held = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if not whole or held.shape != shape:
        size = " x ".join(map(str, shape))
        raise InputError(f"{path} does not hold the 8-bit pixels of {size} of its witness; take the file of the run.")
    first, per_unit = grid(domain, 255)
    return (np.float32(first) + held.astype(np.float32) / np.float32(per_unit)).astype(np.float32)
