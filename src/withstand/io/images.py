"""Image files as pixels, of a size that is looked at before they are unpacked."""

import warnings
from pathlib import Path

import numpy as np

from withstand.core.errors import InputError

LARGEST = 64_000_000
"""Pixels of one image at most."""


def pixels_of(file: Path, mode: str | None = None) -> tuple[np.ndarray, str]:
    """The pixels of an image, uint8 [H, W] or [H, W, 3], and the mode in which it is stored. mode: `L` or `RGB` to
    convert it to; without one the pixels are left out (an empty array).

    Raises InputError when it cannot be read, or has too many pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its size is looked at below
            with Image.open(file) as image:
                if image.width * image.height > LARGEST:
                    raise InputError(
                        f"{file} has {image.width} x {image.height} pixels, more than the {LARGEST:,} that are read; "
                        "give images of the model's size."
                    )
                return np.asarray(image.convert(mode)) if mode else np.empty(0, np.uint8), image.mode
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{file} has more than the {LARGEST:,} pixels that are read; make it smaller.") from None
    except Exception:
        raise InputError(f"{file} cannot be read as an image; repair or remove it.") from None
