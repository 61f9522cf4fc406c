"""Arrays as small PNG pictures inside a page, and their changes in numbers where they are no pictures."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 128
"""Longest side of a picture in a page, in pixels of the picture; larger ones are reduced."""
RISE, FALL = np.array([213, 94, 0]), np.array([0, 114, 178])  # Okabe-Ito vermillion and blue


@dataclass(frozen=True)
class Picture:
    """A picture as a data address, with its text alternative."""

    src: str
    text: str


@dataclass(frozen=True)
class Change:
    """One input feature: its index, the two values, and the change as a share of the largest change shown."""

    index: str
    clean: float
    adversarial: float
    share: float

    @property
    def change(self) -> float:
        """Adversarial minus clean."""
        return self.adversarial - self.clean


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape (channels first, no batch) can be shown: grey or RGB, at least 4 by 4."""
    channels, *sides = shape if len(shape) == 3 else (1, *shape)
    return len(sides) == 2 and channels in (1, 3) and min(sides) >= 4


def picture(x: NDArray, domain: tuple[float, float], text: str) -> Picture:
    """An input [C, H, W] or [H, W] whose values lie in the domain."""
    low, high = domain
    planes = np.clip((_planes(x) - low) / (high - low), 0, 1)
    return Picture(_png(np.rint(planes * 255).astype(np.uint8)), text)


def difference(clean: NDArray, adversarial: NDArray, text: str) -> tuple[Picture, float]:
    """The change between two inputs and the value that is drawn in full colour.

    Grey: orange where the input rose, blue where it fell, white where it stayed. RGB: mid grey where it stayed.
    """
    change = _planes(adversarial) - _planes(clean)
    full = float(np.abs(change).max()) or 1.0
    scaled = change / full
    if scaled.shape[2] == 3:
        pixels = 127.5 + 127.5 * scaled
    else:
        strength = np.abs(scaled)
        pixels = 255 * (1 - strength) + np.where(scaled > 0, RISE, FALL) * strength
    return Picture(_png(np.rint(pixels).astype(np.uint8)), text), full


def largest_changes(clean: NDArray, adversarial: NDArray, count: int = 8) -> list[Change]:
    """The features that changed most, largest first, by index (a tuple for inputs of several axes)."""
    change = np.abs(adversarial - clean)
    order = np.argsort(-change, axis=None, kind="stable")[:count]
    full = float(change.max()) or 1.0
    found = []
    for flat in order.tolist():
        at = tuple(int(i) for i in np.unravel_index(flat, change.shape))
        name = str(at[0]) if len(at) == 1 else ", ".join(map(str, at))
        found.append(Change(name, float(clean[at]), float(adversarial[at]), float(change[at]) / full))
    return found


def _planes(x: NDArray) -> NDArray:
    x = np.nan_to_num(x.astype(np.float64))
    return x.transpose(1, 2, 0) if x.ndim == 3 else x[:, :, None]


def _png(pixels: NDArray) -> str:
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
