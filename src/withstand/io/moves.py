"""What a move of pixels makes of an input, in numpy: replay's own reckoning, apart from `withstand.core.spatial`."""

from collections.abc import Sequence

import numpy as np

from withstand.core.images import channels_last, image_shape
from withstand.core.tolerance import MOVED

NORMS = ("flow", "spatial", "flow+linf")
"""Threats whose witnesses hold a move."""


def check_shape(norm: str, x0: np.ndarray, move: np.ndarray, limits: Sequence[float]) -> None:
    """Raise ValueError unless the move is one of a picture x0."""
    channels, height, width = image_shape(x0.shape)
    wanted = {"spatial": (3,), "flow": (2, height, width), "flow+linf": (2 + channels, height, width)}[norm]
    if move.shape != wanted or len(limits) != {"spatial": 3, "flow": 0, "flow+linf": 2}[norm]:
        raise ValueError(f"a move of shape {move.shape} does not fit")


def size(norm: str, move: np.ndarray, limits: Sequence[float]) -> float:
    """The distance of a move in its threat."""
    move = move.astype(np.float64)
    if norm == "flow":
        return _roughness(move)
    sizes = np.abs(move) if norm == "spatial" else np.array([_roughness(move[:2]), np.abs(move[2:]).max()])
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nan_to_num(sizes / np.asarray(limits), nan=0.0, posinf=np.inf).max())


def _roughness(move: np.ndarray) -> float:
    framed = np.pad(move, ((0, 0), (1, 1), (1, 1)))
    middle = framed[:, 1:-1, 1:-1]
    around = (framed[:, :-2, 1:-1], framed[:, 2:, 1:-1], framed[:, 1:-1, :-2], framed[:, 1:-1, 2:])
    return max(float(np.sqrt(((middle - other) ** 2).sum(0).mean())) for other in around)


def render(norm: str, x0: np.ndarray, move: np.ndarray, fill: float) -> np.ndarray:
    """The input that a move makes of x0, in float64, whatever the domain. `fill`: what comes in from outside a picture
    that is turned."""
    images = (np.moveaxis(x0, -1, 0) if channels_last(x0.shape) else x0).astype(np.float64)
    images = images.reshape(image_shape(x0.shape))
    height, width = images.shape[1:]
    down, across = np.mgrid[0:height, 0:width].astype(np.float64)
    if norm == "spatial":
        angle, right, below = np.deg2rad(float(move[0])), float(move[1]), float(move[2])
        v, u = down - (height - 1) / 2 - below, across - (width - 1) / 2 - right
        down = np.cos(angle) * v + np.sin(angle) * u + (height - 1) / 2
        across = np.cos(angle) * u - np.sin(angle) * v + (width - 1) / 2
        images = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=fill)
        moved = _bilinear(images, down + 1, across + 1)
    else:
        moved = _bilinear(images, down + move[0], across + move[1]) + (move[2:] if norm == "flow+linf" else 0.0)
    return np.moveaxis(moved, 0, -1) if channels_last(x0.shape) else moved.reshape(x0.shape)


def rounding(x0: np.ndarray, fill: float) -> float:
    """How far float32 may put an input from what `render` makes of its move."""
    spread = max(float(x0.max()), fill) - min(float(x0.min()), fill)
    return MOVED * (2 + max(image_shape(x0.shape))) * max(spread, 1e-3)


def _bilinear(images: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:]
    down, across = np.clip(down, 0, height - 1), np.clip(across, 0, width - 1)
    top, left = np.floor(down).astype(int), np.floor(across).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    v, u = down - top, across - left
    upper = images[:, top, left] * (1 - u) + images[:, top, right] * u
    lower = images[:, bottom, left] * (1 - u) + images[:, bottom, right] * u
    return upper * (1 - v) + lower * v
